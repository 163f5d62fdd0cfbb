# Runs one server for the process that holds the other end of standard input, in a separate directory. When that end is
# closed, however that process ended, this script stops the server and removes the directory. $1 is the signal that stops it.
#
# One command per line. Each has one line as its answer:
#   run WORDS     runs a shell command to its end    its exit status
#   start WORDS   starts the server                  its process id
#   signal NAME   sends the server a signal          0 if it was running
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
# At every end except SIGKILL. Only the end of the commands must end this script, not an answer that no process reads
# any longer. So SIGPIPE runs `:`. It is not ignored, because the servers would inherit that.
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
    # An open standard input means that the owner lives: no server may hold it. A server may not hold the answers either.
    (eval "$words") </dev/null >&2 &
    server=$!
    echo "$server"
    ;;
  signal\ *)
    [ -n "$server" ] && kill -s "$words" "$server" 2>/dev/null
    echo $?
    ;;
  poll)
    # During a wait, the shell collects every child that has ended.
    sleep 0.02
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
      echo running
    else
      if [ -n "$server" ]; then
        wait "$server"
        status=$?
        # From here on another process may have its number.
        server=
      fi
      echo "$status"
    fi
    ;;
  esac
done

# If a server is stopped when the owner dies, the kernel sends SIGHUP. At the start of `finish` it would end this script.
trap '' HUP INT TERM PIPE
