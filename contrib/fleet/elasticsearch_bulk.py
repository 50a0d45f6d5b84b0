"""The JSON lines of ``kvmwhy scan`` as the body of Elasticsearch's and OpenSearch's ``_bulk``.

curl -X PUT "$URL/kvm_failures" -H 'Content-Type: application/json' --data-binary @elasticsearch.json
python3 elasticsearch_bulk.py failures.jsonl | split -l 20000 --filter='curl -sS --fail-with-body -X POST \
    "$URL/kvm_failures/_bulk?filter_path=errors,items.*.error" -H "Content-Type: application/x-ndjson" --data-binary @-'

A row's ID comes from all of it: what is loaded twice is there once. Each answer must say ``"errors":false``.
"""

from __future__ import annotations

import fileinput
import hashlib
import sys

with fileinput.input(mode="rb") as lines:
    for line in lines:
        if row := line.strip():
            name = hashlib.blake2b(row, digest_size=16).hexdigest()
            sys.stdout.buffer.write(b'{"index":{"_id":"%s"}}\n%s\n' % (name.encode(), row))
