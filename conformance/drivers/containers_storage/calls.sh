# shellcheck shell=sh disable=SC2154 # binary and driver are set before
# The calls of the containers-storage command.
# cs STORE VERB...: the containers-storage command on the store in $work/STORE
cs() {
    store=$1
    shift
    eval "options=\$options_$store"
    eval "place=\$place_$store"
    eval "\"\$binary\" --graph \"\$place/graph\" --run \"\$place/run\" --storage-driver \"\$driver\"$options \"\$@\""
}
# A pipe would hide the exit status of the command.
cs_changes() { cs_said=$(cs "$@") && printf '%s' "${cs_said:+$cs_said
}" | sed -e 's/^Add "\(.*\)"$/add \1/' -e 's/^Modify "\(.*\)"$/modify \1/' \
    -e 's/^Delete "\(.*\)"$/delete \1/'; }
cs_exists() { if cs "$1" exists "$2"; then echo yes; else echo no; fi; }
cs_size() { cs_said=$(cs "$@") && printf '%s\n' "$cs_said" | tail -n 1; }
