#!/bin/sh
# Called by lnav for :annotate. It is given one line of a log as a JSON object, and prints Markdown.
exec python3 -c '
import json, subprocess, sys

line = json.load(sys.stdin)
path = line.get("log_path") or ""
text = line.get("log_raw_text") or line.get("log_text") or line.get("log_body") or ""
# The whole log, if its file can be read: the line alone has neither the words nor the registers.
source = [path] if path and not path.startswith("stdin") else ["-"]
run = subprocess.run(["kvmwhy", "-q", "explain", "--markdown", *source], input=text, capture_output=True, text=True)
print(run.stdout or "kvmwhy finds no failure of KVM here.")
'
