"""The containers-storage command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from conformance.history.calls import (
    ApplyDiff,
    Changes,
    Close,
    Create,
    Diff,
    DiffSize,
    Exists,
    Get,
    Metadata,
    Put,
    Remove,
    Reopen,
    Status,
)
from conformance.history.steps import Called, Opened
from conformance.operations.shell import NoScript, quoted, shell_file

_NO_OPTIONS: Final = "the containers-storage command takes no options or labels of a layer"


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
        words = f"binary={quoted(self.binary)}\ndriver={quoted(self.driver)}\n"
        return words + shell_file("conformance.drivers.containers_storage", "calls.sh")

    def home(self, store: str, below: str) -> str:
        return f"$work/{store}{'/' + below if below else ''}/graph/{self.driver}"

    def opened(self, step: Opened) -> str:
        if step.id_map or step.gid_map:
            raise NoScript("the containers-storage command maps no owners of a store")
        words = [*self.options, *(f"overlay.{word}" for word in step.options)]
        options = "".join(f" --storage-opt {quoted(word)}" for word in words)
        if step.image_stores:
            stores = ",".join(f"$work/{one}/graph" for one in step.image_stores)
            options += f' --storage-opt "overlay.imagestore={stores}"'
        place = f'"$work/{step.store}"' + (f"/{quoted(step.below)}" if step.below else "")
        return f"place_{step.store}={place}\noptions_{step.store}={_held(options)}\ncs {step.store} status"

    def called(self, step: Called) -> str:  # noqa: C901 - one case for each call
        cs, call = f"cs {step.store}", step.call
        match call:
            case Create():
                if call.options:
                    raise NoScript(_NO_OPTIONS)
                kind = " --readonly" if call.options is None else ""
                return f"{cs} create-layer{kind} -i {_layer(call.layer, call.parent)}"
            case Remove():
                return f"{cs} delete-layer {_layer(call.layer)}"
            case Get():
                if call.label:
                    raise NoScript(_NO_OPTIONS)
                return f"{cs} mount {_layer(call.layer)}"
            case Put():
                return f"{cs} unmount {_layer(call.layer)}"
            case Exists():
                return f"cs_exists {step.store} {_layer(call.layer)}"
            case Diff() if call.piece:
                raise NoScript("the containers-storage command reads a diff as it likes, and to its end")
            case Diff():
                return f'{cs} diff -u -f "$work/{call.archive}" {_layer(call.layer, call.parent)}'
            case ApplyDiff():
                return f'{cs} applydiff -f "$work/{call.archive}" {_layer(call.layer)}'
            case DiffSize():
                return f"cs_size {step.store} diffsize {_layer(call.layer, call.parent)}"
            case Changes():
                return f"cs_changes {step.store} changes {_layer(call.layer, call.parent)}"
            case Status():
                return f"{cs} status"
            case Reopen():
                return "# every command opens the store anew"
            case Close():
                return f"{cs} shutdown -f"
            case Metadata():
                raise NoScript("the containers-storage command has nothing for metadata")
            case _:
                assert_never(call)

    def refusal(self, said: str) -> str:
        return said

    def epilogue(self) -> str:
        return ""


def _layer(layer: str, parent: str = "") -> str:
    return quoted(layer) + (f" {quoted(parent)}" if parent else "")


def _held(options: str) -> str:
    """Options that hold quotes of their own and ``$work``, in one word that is evaluated later."""
    return "'" + options.replace("'", "'\\''") + "'"
