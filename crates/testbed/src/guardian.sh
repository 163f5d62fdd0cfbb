# Runs one server for the process that holds the other end of standard input, in a directory of its own. When that end
# closes, however that process ended, the server is stopped and the directory removed. $1 is the signal to stop it by.
#
# One command a line, one line of answer each:
#   run WORDS     runs a shell command to its end    its exit status
#   start WORDS   starts the server                  its process id
#   signal NAME   sends the server a signal          0 if it was there
#   poll          looks whether it still runs        `running`, or its exit status
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
# However this ends but by SIGKILL. An answer that nobody takes any more must not end it (`:`, not ignored: servers
# would inherit that), but only the end of the commands.
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
    # Standard input is the promise that somebody is there: no server may hold it. Nor may one hold the answers.
    (eval "$words") </dev/null >&2 &
    server=$!
    echo "$server"
    ;;
  signal\ *)
    [ -n "$server" ] && kill -s "$words" "$server" 2>/dev/null
    echo $?
    ;;
  poll)
    # A shell that waits for anything takes note of every child that has ended meanwhile.
    sleep 0.02
    if [ -n "$server" ] && kill -0 "$server" 2>/dev/null; then
      echo running
    else
      if [ -n "$server" ]; then
        wait "$server"
        status=$?
        # From here on its number may be somebody else's.
        server=
      fi
      echo "$status"
    fi
    ;;
  esac
done

# A stopped server makes the kernel send SIGHUP when the owner dies. In the first moments of `finish` it would end it.
trap '' HUP INT TERM PIPE
