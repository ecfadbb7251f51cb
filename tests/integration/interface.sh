#!/bin/bash
# The interface file is Varlink as others read it: the generator of the Go implementation, which Debian has, takes both
# the file and what a running coordinator answers to GetInterfaceDescription.
source "${UMBRA_SOURCE:-$(dirname "$0")/../..}/tests/support/tap.sh"
source "$UMBRA_SOURCE/tests/support/umbra.sh"
u_setup
t_need python3 varlink-go-interface-generator
file=$UMBRA_SOURCE/coordinator/client/io.umbra.varlink

parses() {
	local out=$T_TMP/parse.$RANDOM

	mkdir "$out" && cp "$1" "$out/io.umbra.varlink" && (cd "$out" && varlink-go-interface-generator io.umbra.varlink) &&
		grep -q 'GetInfo' "$out"/*.go
}
describe() {
	python3 - "$1" <<'P'
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ['UMBRA_SOCKET'])
s.sendall(json.dumps({'method': 'org.varlink.service.GetInterfaceDescription',
                      'parameters': {'interface': sys.argv[1]}}).encode() + b'\0')
answer = b''
while not answer.endswith(b'\0'):
    answer += s.recv(65536)
sys.stdout.write(json.loads(answer[:-1])['parameters']['description'])
P
}
# Every method of the file is one that the coordinator knows: it never answers MethodNotFound.
methods_known() {
	grep '^method' "$file" | sed 's/^method \([A-Za-z]*\).*/\1/' >"$T_TMP/methods"
	[ "$(wc -l <"$T_TMP/methods")" -gt 30 ] || return
	python3 - "$T_TMP/methods" <<'P'
import json, os, socket, sys
for method in open(sys.argv[1]).read().split():
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.environ['UMBRA_SOCKET'])
    s.sendall(json.dumps({'method': 'io.umbra.' + method, 'parameters': {}}).encode() + b'\0')
    s.settimeout(60)
    answer = b''
    while not answer.endswith(b'\0'):
        more = s.recv(65536)
        if not more:
            break
        answer += more
    if json.loads(answer[:-1] or '{}').get('error', '').endswith('MethodNotFound'):
        sys.exit(method + ' is not known')
P
}

t_ok "the file is Varlink" parses "$file"
sed 's/^method GetInfo() ->/method GetInfo( ->/' "$file" >"$T_TMP/broken"
t_not "a broken one is not" parses "$T_TMP/broken"
t_ok "a coordinator" u_coordinator
describe io.umbra >"$T_TMP/described"
t_ok "it describes itself with that file" cmp "$T_TMP/described" "$file"
t_ok "each method of the file is known" methods_known
u_end
