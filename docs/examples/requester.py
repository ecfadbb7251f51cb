#!/usr/bin/env python3
"""A requester without the library: JSON and a NUL over a Unix socket, as Varlink has it.

    requester.py DIR    makes a snapshot of a protected directory and lists what is in it
"""
import json, os, socket, sys


def socket_path():
    if "UMBRA_SOCKET" in os.environ:
        return os.environ["UMBRA_SOCKET"]
    if os.geteuid() == 0 and os.access("/run", os.W_OK):
        return "/run/umbra/coordinator"
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (runtime + "/umbra" if runtime else f"/tmp/umbra-{os.geteuid()}") + "/coordinator"


class Coordinator:
    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(socket_path())
        self.stream = self.socket.makefile("rb")

    def call(self, method, **parameters):
        call = {"method": "io.umbra." + method, "parameters": parameters}
        self.socket.sendall(json.dumps(call).encode() + b"\0")
        text = bytearray()
        while (byte := self.stream.read(1)) not in (b"\0", b""):
            text += byte
        answer = json.loads(text)
        if "error" in answer:
            raise RuntimeError("{name}: {message}".format(**answer["parameters"]))
        return answer.get("parameters", {})

    def long_call(self, method):  # one that starts an operation (S-7)
        operation = self.call("WaitOperation", **self.call(method))["operation"]
        if operation["status"] != "finished":
            raise RuntimeError("{call}: {status}: {message}".format(**operation))


umbra = Coordinator()
umbra.call("InitializeForBackup")
try:
    umbra.long_call("GatherWriterMetadata")
    umbra.call("StartSnapshotSet")
    added = umbra.call("AddToSnapshotSet", path=os.path.realpath(sys.argv[1]))
    umbra.long_call("PrepareForBackup")
    umbra.long_call("DoSnapshotSet")
    snapshot = umbra.call("GetSnapshotProperties", **added)["snapshot"]
    print("\n".join(sorted(os.listdir(snapshot["path"]))))
    umbra.call("SetBackupSucceeded", succeeded=True)
    umbra.long_call("BackupComplete")
except BaseException:
    umbra.call("AbortBackup")  # whatever went wrong
    raise
umbra.call("Release")
