# shellcheck shell=bash
# USR1 is what SLURM sends before the time limit: `--signal=B:USR1@60`.

# run_with_usr1 SIGNAL COMMAND...: runs a command to its end and returns its exit code; for USR1 the command gets SIGNAL.
run_with_usr1() {
  local signal=$1 early=""
  shift
  trap : TERM # of scancel and of preemption, which the command gets from SLURM itself: wait until it has saved, no more
  trap 'usr1_came=1 early=1' USR1
  "$@" &
  trap 'usr1_came=1; kill -"$signal" $!' USR1
  [[ $early ]] && kill -"$signal" $!
  while kill -0 $! 2> /dev/null; do wait $!; done # a signal ends the wait, not the command
  wait $!
}

# run_or_requeue SIGNAL COMMAND...: the same, and leaves; the job goes back into the queue if USR1 ended the command.
run_or_requeue() {
  local code usr1_came=""
  run_with_usr1 "$@"
  code=$?
  if [[ $usr1_came && $code -ne 0 ]]; then
    # by array and task: the number of an array's last job is that of the whole array
    scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
  fi
  exit $code
}

# run_on_node COMMAND...: runs torchrun on a node of a job. USR1 reaches every process there; torchrun alone gets SIGTERM
# for it and passes it on: a rank that gets two leaves before it has saved.
run_on_node() {
  run_with_usr1 TERM ignore_usr1 "$@"
}

ignore_usr1() {
  trap '' USR1
  exec "$@"
}
