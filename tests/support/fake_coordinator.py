#!/usr/bin/env python3
"""A coordinator that says what it is told: events to writers, in any order, also wrong ones.

    fake_coordinator.py serve SOCKET          prints "ready"; the control socket is SOCKET.control
    fake_coordinator.py tell SOCKET JSON      one command; prints its answer; fails when that has an error

Commands:
    {"do": "wait", "writers": N}              until N writers listen for events
    {"do": "event", "event": E, "session": S, "set": T, "arguments": {..}, "nowait": true, "writer": I}
                                              sends it to the I-th writer (0), waits for the answer:
                                              "ok", "ok CODE MESSAGE", "fail CODE MESSAGE"; "sent SERIAL"
    {"do": "answer", "serial": N}             the answer to an event sent without waiting
    {"do": "info", "pid": P, "trees": [..]}   what GetInfo and ListTrees say from now on
    {"do": "registrations"}                   what RegisterWriter was called with, all of them
    {"do": "disconnect"}                      all writers' connections end; it goes on to listen
"""
import json
import os
import socket
import sys
import threading
import uuid

WAIT_SECONDS = 100  # what has not come by then will not: the test fails instead of hanging

lock = threading.Condition()
writers = []  # those that listen now
registrations = []
answers = {}
gone = set()  # serials whose writer went away
info = {"pid": 1, "trees": []}
serial = 0


class Lines:
    """JSON objects ended by NUL."""

    def __init__(self, sock):
        self.sock, self.data = sock, b""

    def get(self):
        while b"\0" not in self.data:
            more = self.sock.recv(65536)
            if not more:
                return None
            self.data += more
        one, self.data = self.data.split(b"\0", 1)
        return json.loads(one)

    def put(self, obj):
        self.sock.sendall(json.dumps(obj).encode() + b"\0")


class Peer:
    def __init__(self, sock):
        self.io, self.sock, self.sent = Lines(sock), sock, []

    def reply(self, parameters):
        self.io.put({"parameters": parameters})

    def call(self, message):
        method = message["method"].removeprefix("io.umbra.")
        p = message.get("parameters") or {}
        if method == "GetInfo":
            self.reply({"version": "fake", "pid": info["pid"], "uid": 0, "started": "", "socket": ""})
        elif method == "ListTrees":
            self.reply({"trees": info["trees"]})
        elif method == "RegisterWriter":
            registrations.append(p)
            self.reply({"instance_id": str(uuid.uuid4())})
        elif method == "WriterEvents":
            writers.append(self)
            lock.notify_all()
        elif method == "WriterAnswer":
            answers[p["serial"]] = p
            lock.notify_all()
        elif not message.get("oneway"):
            self.io.put({"error": "io.umbra.Failed", "parameters": {
                "name": "bad-state", "message": "fake: " + method, "again": False}})

    def run(self):
        try:
            while (message := self.io.get()) is not None:
                with lock:
                    self.call(message)
        except OSError:
            pass
        with lock:
            if self in writers:
                writers.remove(self)
            gone.update(self.sent)
            lock.notify_all()
        self.sock.close()


def show(answer):
    words = [answer["status"], answer.get("code"), answer.get("message")]
    return " ".join(w for w in words if w)


def wait_answer(number):
    if not lock.wait_for(lambda: number in answers or number in gone, timeout=WAIT_SECONDS):
        return {"say": "no answer"}
    return {"say": show(answers[number]), **answers[number]} if number in answers else {"say": "gone"}


def send_event(c):
    global serial
    serial += 1
    peer = writers[c.get("writer", 0)]
    peer.sent.append(serial)
    peer.io.put({"continues": True, "parameters": {
        "serial": serial, "event": c["event"], "session_id": c.get("session"),
        "set_id": c.get("set"), "arguments": c.get("arguments") or {}}})
    return {"say": f"sent {serial}"} if c.get("nowait") else wait_answer(serial)


def command(c):
    with lock:
        if c["do"] == "wait":
            if lock.wait_for(lambda: len(writers) == c["writers"], timeout=WAIT_SECONDS):
                return {"say": "ok"}
            return {"error": f"{len(writers)} writers, not {c['writers']}"}
        if c["do"] == "event":
            return send_event(c)
        if c["do"] == "answer":
            return wait_answer(c["serial"])
        if c["do"] == "info":
            info.update({k: v for k, v in c.items() if k != "do"})
            return {"say": "ok"}
        if c["do"] == "registrations":
            return {"say": json.dumps(registrations)}
        if c["do"] == "disconnect":
            for w in writers:
                w.sock.shutdown(socket.SHUT_RDWR)
            return {"say": "ok"}
    return {"error": "no such command"}


def control(sock):
    io = Lines(sock)
    while (c := io.get()) is not None:
        try:
            io.put(command(c))
        except Exception as e:  # the test sees it
            io.put({"error": repr(e)})
    sock.close()


def accept(path, serve):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(64)

    def loop():
        while True:
            threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    return thread


def main():
    what, path = sys.argv[1:3]
    if what == "serve":
        for p in (path, path + ".control"):
            if os.path.exists(p):
                os.unlink(p)
        accept(path + ".control", control)
        thread = accept(path, lambda sock: Peer(sock).run())
        print("ready", flush=True)
        thread.join()
        return 0
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path + ".control")
    io = Lines(sock)
    io.put(json.loads(sys.argv[3]))
    answer = io.get()
    print(answer.get("say") or answer)
    return 1 if "error" in answer else 0


sys.exit(main())
