#!/bin/sh
# status.sh JOB: prints running, success or failed. -x: jobs that have ended too (job_history_enable must be on).
# No answer is no news: Snakemake asks again.
qstat -x -f "$1" 2>/dev/null | awk '
    $1 == "job_state" { state = $3 }
    $1 == "Exit_status" { code = $3 }
    END { print (state != "F" ? "running" : code == "0" ? "success" : "failed") }'
