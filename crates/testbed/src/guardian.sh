# Runs one server for the process that holds the other end of standard input, in a directory of its own. When that
# process closes its end, or ends in any way, this script stops the server and removes the directory. $1 is the signal
# for that.
#
# One command a line, one line of answer each:
#   run WORDS     runs a shell command to its end    its exit status
#   start WORDS   starts the server                  its process id
#   signal NAME   sends the server a signal          0 if the server was running
#   poll          checks whether it still runs       `running`, or its exit status
server=
status=127
dir=

finish() {
  trap '' HUP INT TERM PIPE
  if [ -n "$server" ]; then
    kill -s "$last_signal" "$server" 2>/dev/null && kill -s CONT "$server" 2>/dev/null
    tries=0
    while kill -0 "$server" 2>/dev/null; do
      [ "$tries" -eq 100 ] && kill -s KILL "$server" 2>/dev/null
      tries=$((tries + 1))
      sleep 0.05
    done
  fi
  cd / && rm -rf "$dir"
}

last_signal=$1
# `finish` runs at every end but SIGKILL. A broken pipe of the answers must not end this script: only the end of the
# commands does. SIGPIPE is caught and not ignored, because servers would inherit that it is ignored.
trap finish EXIT
trap 'exit 1' HUP INT TERM
trap : PIPE

dir=$(mktemp -d "${TMPDIR:-/tmp}/booking-history.XXXXXX") && cd "$dir" || exit 1
echo "$dir"

while IFS= read -r line; do
  words=${line#* }
  case $line in
  run\ *)
    (eval "$words") </dev/null >&2
    echo $?
    ;;
  start\ *)
    # The pipes close when the owner ends. So no server may hold them.
    (eval "$words") </dev/null >&2 &
    server=$!
    echo "$server"
    ;;
  signal\ *)
    [ -n "$server" ] && kill -s "$words" "$server" 2>/dev/null
    echo $?
    ;;
  poll)
    # While it waits for any command, a shell also collects the children that have ended.
    sleep 0.02
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
      echo running
    else
      if [ -n "$server" ]; then
        wait "$server"
        status=$?
        # The kernel may now give its number to another process.
        server=
      fi
      echo "$status"
    fi
    ;;
  esac
done

# If the server is stopped (SIGSTOP), the kernel sends SIGHUP when the owner dies. It must not interrupt `finish`.
trap '' HUP INT TERM PIPE
