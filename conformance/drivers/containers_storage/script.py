"""The containers-storage command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conformance.history.tape import Called, Opened
from conformance.operations.shell import NoScript, quoted

_PROLOGUE = """\
binary=%(binary)s
driver=%(driver)s
# cs STORE VERB...: the containers-storage command on the store in $work/STORE
cs() {
    store=$1
    shift
    eval "options=\\$options_$store"
    eval "place=\\$place_$store"
    eval "\\"\\$binary\\" --graph \\"\\$place/graph\\" --run \\"\\$place/run\\" --storage-driver \\"\\$driver\\"$options \\"\\$@\\""
}
cs_changes() { cs "$@" | sed -e 's/^Add "\\(.*\\)"$/add \\1/' -e 's/^Modify "\\(.*\\)"$/modify \\1/' \\
    -e 's/^Delete "\\(.*\\)"$/delete \\1/'; }
cs_exists() { if cs "$1" exists "$2"; then echo yes; else echo no; fi; }
cs_size() { cs "$@" | tail -n 1; }
"""


@dataclass(frozen=True, slots=True)
class ContainersStorage:
    """``options`` are words of --storage-opt that every store has."""

    binary: str
    driver: str
    options: tuple[str, ...] = ()

    @property
    def needs(self) -> Sequence[str]:
        return (self.binary,)

    def prologue(self) -> str:
        return _PROLOGUE % {"binary": quoted(self.binary), "driver": quoted(self.driver)}

    def home(self, store: str, below: str) -> str:
        return f"$work/{store}{'/' + below if below else ''}/graph/{self.driver}"

    def opened(self, step: Opened) -> str:
        if step.id_map:
            raise NoScript("the containers-storage command maps no owners of a store")
        words = [*self.options, *(f"overlay.{word}" for word in step.options)]
        options = "".join(f" --storage-opt {quoted(word)}" for word in words)
        if step.image_stores:
            stores = ",".join(f"$work/{one}/graph" for one in step.image_stores)
            options += f' --storage-opt "overlay.imagestore={stores}"'
        place = f'"$work/{step.store}"' + (f"/{quoted(step.below)}" if step.below else "")
        return f"place_{step.store}={place}\noptions_{step.store}={_held(options)}\ncs {step.store} status"

    def called(self, step: Called) -> str:
        cs, layer = f"cs {step.store}", quoted(step.layer)
        parent = f" {quoted(step.parent)}" if step.parent else ""
        if step.options or step.label:
            raise NoScript("the containers-storage command takes no options or labels of a layer")
        commands = {
            "create": f"{cs} create-layer{' --readonly' if step.options is None else ''} -i {layer}{parent}",
            "remove": f"{cs} delete-layer {layer}",
            "get": f"{cs} mount {layer}",
            "put": f"{cs} unmount {layer}",
            "exists": f"cs_exists {step.store} {layer}",
            "diff": f'{cs} diff -u -f "$work/{step.archive}" {layer}{parent}',
            "apply": f'{cs} applydiff -f "$work/{step.archive}" {layer}',
            "diff-size": f"cs_size {step.store} diffsize {layer}{parent}",
            "changes": f"cs_changes {step.store} changes {layer}{parent}",
            "status": f"{cs} status",
            "reopen": "# every command opens the store anew",
            "close": f"{cs} shutdown -f",
        }
        if step.verb not in commands:
            raise NoScript(f"the containers-storage command has nothing for {step.verb}")
        return commands[step.verb]

    def refusal(self, said: str) -> str:
        return said

    def epilogue(self) -> str:
        return ""


def _held(options: str) -> str:
    """Options that hold quotes of their own and ``$work``, in one word that is evaluated later."""
    return "'" + options.replace("'", "'\\''") + "'"
