"""What a process gives up for good before it opens a stranger's file.

Everywhere: memory, files, core dumps. On Linux also the file system beyond that file and Python itself (Landlock), and
with it other programs, TCP and signals; sockets of any kind, and what reaches into other processes (seccomp).
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_VERSION = 1  # asks for the version in place of a ruleset
_BENEATH = 1  # kind of rule: a path and all below it
_READ_FILE, _READ_DIRECTORY = 1 << 2, 1 << 3
# How many kinds of access to files each version of Landlock can refuse, from its first on.
_ACCESSES = (13, 14, 15, 15, 16)
_TCP = 0b11  # bind and connect, since version 4
_SCOPES = 0b11  # abstract sockets and signals of others, since version 6

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # the latter with EPERM

_X32 = 0x40000000  # from here on calls of a second table, by which all others could be had, too

# Calls that a decoder has no use for, by machine: its number in the kernel's tables, then socket, connect, ptrace,
# execve, execveat, kill, process_vm_readv, process_vm_writev, bpf, io_uring_setup.
_CALLS = {
    "x86_64": (0xC000003E, (41, 42, 101, 59, 322, 62, 310, 311, 321, 425)),
    "aarch64": (0xC00000B7, (198, 203, 117, 221, 281, 129, 270, 271, 280, 425)),
}


def confine(file: Path, memory: int) -> list[str]:
    """Give up all that reading ``file`` does not need; it cannot be taken back.

    Args:
        file: the one file that stays readable, beside Python and its packages.
        memory: bytes of address space.

    Returns:
        What this system has no means to take away, in words.

    Raises:
        OSError: the file cannot be opened, or the system refuses a limit that it has.
    """
    if sys.platform == "win32":
        raise AssertionError
    for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_AS, memory)):
        _, hard = resource.getrlimit(limit)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        if sys.platform == "linux" or limit != resource.RLIMIT_AS:  # macOS has this one in name alone
            resource.setrlimit(limit, (most, most))
    if sys.platform != "linux":
        return ["other files and the network are not: that needs Linux"]
    libc = ctypes.CDLL(None, use_errno=True)
    _call(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    lacking = []
    if not _landlock(libc, [file], {Path(place) for place in (sys.prefix, sys.base_prefix, *sys.path) if place}):
        lacking.append("other files are not: this kernel has no Landlock")
    if not _seccomp(libc):
        lacking.append(f"the network is not: for {platform.machine()} there is no list of calls")
    return lacking


def _landlock(libc: ctypes.CDLL, files: Iterable[Path], directories: Iterable[Path]) -> bool:
    if sys.platform != "linux":
        raise AssertionError
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), _LANDLOCK_VERSION)
    if version < 1:
        return False  # a kernel before 5.13, or one that has it switched off
    accesses = (1 << _ACCESSES[min(version, len(_ACCESSES)) - 1]) - 1
    ruleset = struct.pack("=Q", accesses)
    if version >= 4:
        ruleset += struct.pack("=Q", _TCP)
    if version >= 6:
        ruleset += struct.pack("=Q", _SCOPES)
    rules = _call(libc.syscall(_LANDLOCK_CREATE, ruleset, ctypes.c_size_t(len(ruleset)), 0))
    try:
        for allowed, places in ((_READ_FILE, files), (_READ_FILE | _READ_DIRECTORY, directories)):
            for place in places:
                try:
                    opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
                except FileNotFoundError:
                    continue  # of sys.path
                try:
                    right = allowed if place.is_dir() else allowed & _READ_FILE
                    rule = struct.pack("=Qi", right, opened)
                    _call(libc.syscall(_LANDLOCK_ADD, rules, _BENEATH, rule, 0))
                finally:
                    os.close(opened)
        _call(libc.syscall(_LANDLOCK_RESTRICT, rules, 0))
    finally:
        os.close(rules)
    return True


def _seccomp(libc: ctypes.CDLL) -> bool:
    if platform.machine() not in _CALLS:
        return False
    machine, calls = _CALLS[platform.machine()]
    # Of classic BPF: a word of what was called; jump if equal, if as large; return.
    load, equal, large, give = 0x20, 0x15, 0x35, 0x06
    program = [(load, 0, 0, 4), (equal, 1, 0, machine), (give, 0, 0, _REFUSE), (load, 0, 0, 0)]
    program.append((large, len(calls) + 1, 0, _X32))
    program += [(equal, len(calls) - i, 0, call) for i, call in enumerate(calls)]
    program += [(give, 0, 0, _ALLOW), (give, 0, 0, _REFUSE)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    filters = struct.pack("@HP", len(program), ctypes.addressof(code))
    _call(libc.prctl(_SET_SECCOMP, _FILTER, filters, 0, 0))
    return True


def _call(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
