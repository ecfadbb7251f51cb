# tests/support/calls.py - a requester, or a provider, of a script's own: single calls over the coordinator's socket.
#
#   python3 calls.py requester WORD...
#
# Does one thing after another in one session and says how each went: "create: finished", "abort: bad-state".
#   init strict context=C gather start add=PATH prepare create succeeded complete status abort release
#   create&       begins it and goes on; wait: until it ended
#   pause         does nothing more until it is killed
# It goes on after what was refused. At its end the connection ends, released or not.
#
#   python3 calls.py provider PATH [CALL=fail|silent]...
#
# Registers PATH as a tree and answers well, but for what it is told. Says "registered", then each question.
import json
import os
import signal
import socket
import sys


class Connection:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.environ['UMBRA_SOCKET'])
        self.buffer = b''

    def send(self, method, parameters, **more):
        message = {'method': 'io.umbra.' + method, 'parameters': parameters, **more}
        self.socket.sendall(json.dumps(message).encode() + b'\0')

    def receive(self):
        while b'\0' not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.buffer += data
        message, self.buffer = self.buffer.split(b'\0', 1)
        return json.loads(message)


class Requester:
    methods = {
        'init': ('InitializeForBackup', {}), 'strict': ('InitializeForBackup', {'require_writers': True}),
        'start': ('StartSnapshotSet', {}), 'succeeded': ('SetBackupSucceeded', {'succeeded': True}),
        'abort': ('AbortBackup', {}), 'release': ('Release', {}),
    }
    operations = {
        'gather': 'GatherWriterMetadata', 'prepare': 'PrepareForBackup', 'create': 'DoSnapshotSet',
        'complete': 'BackupComplete', 'status': 'GatherWriterStatus',
    }

    def __init__(self):
        self.connection = Connection()
        self.operation = None

    def call(self, method, parameters):
        self.connection.send(method, parameters)
        answer = self.connection.receive()
        error = answer.get('error')
        if error:
            return (answer.get('parameters') or {}).get('name') or error.rsplit('.', 1)[-1], {}
        return 'ok', answer.get('parameters') or {}

    def begin(self, method):
        said, answer = self.call(method, {})
        self.operation = answer.get('operation_id')
        return said

    def wait(self):
        said, answer = self.call('WaitOperation', {'operation_id': self.operation})
        return answer['operation']['status'] if said == 'ok' else said

    def do(self, word):
        name, _, value = word.partition('=')
        if name == 'context':
            return self.call('SetContext', {'context': value})[0]
        if name == 'add':
            return self.call('AddToSnapshotSet', {'path': value})[0]
        if word == 'create&':
            return self.begin('DoSnapshotSet')
        if word == 'wait':
            return self.wait()
        if word in self.operations:
            said = self.begin(self.operations[word])
            return self.wait() if said == 'ok' else said
        return self.call(*self.methods[word])[0]

    def run(self, words):
        for word in words:
            if word == 'pause':
                signal.pause()
            print('%s: %s' % (word.partition('=')[0], self.do(word)), flush=True)


def provide(path, ways):
    connection = Connection()
    epoch = 0
    tree = {'id': '0a0b0c0d-0000-4000-8000-%012d' % os.getpid(), 'path': path, 'pid': os.getpid(),
            'store': path, 'snapshot_root': path + '/.snapshots', 'snapshots_shown': 'hidden', 'used_bytes': 0,
            'allocated_bytes': 0, 'max_bytes': 0, 'holding': False, 'fault': None, 'warnings': []}
    connection.send('RegisterProvider', {'tree': tree, 'uid': os.getuid(), 'snapshots': []}, more=True)
    first = True
    while True:
        question = connection.receive().get('parameters') or {}
        if first:
            first = False
            print('registered', flush=True)
        if 'serial' not in question or not question.get('call'):
            continue
        call = question['call']
        print(call, flush=True)
        if ways.get(call) == 'silent':
            continue
        answer = {'serial': question['serial'], 'result': {}}
        if call == 'open':
            epoch += 1
            answer['result'] = {'epoch': epoch}
        if call == 'list':
            answer['result'] = {'snapshots': []}
        if ways.get(call) == 'fail':
            answer = {'serial': question['serial'], 'error': 'insufficient-storage', 'message': 'as the test wants it'}
        connection.send('ProviderAnswer', answer, oneway=True)


if sys.argv[1] == 'requester':
    Requester().run(sys.argv[2:])
else:
    try:
        provide(sys.argv[2], dict(arg.split('=') for arg in sys.argv[3:]))
    except EOFError:
        pass
