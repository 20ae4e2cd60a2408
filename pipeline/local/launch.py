"""The first code of every child: ties its life to the supervisor's, drops root, then becomes the program.

A script of the standard library alone, run as `python -I -S launch.py SPEC ARGV…` by pipeline.local.child;
SPEC is JSON (see `Jail` in service.py). It runs between fork and exec of the program, in a process of its
own: that is safe where a preexec function in a threaded parent is not.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_CAPABILITY_VERSION_3 = 0x20080522
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x00020000, 4096, 16384, 1 << 18


def main() -> None:
    """Becomes the program given on the command line."""
    spec: dict[str, Any] = json.loads(sys.argv[1])
    linux = sys.platform.startswith("linux")
    if spec["binds"]:
        _mount(spec["binds"])
    if spec["chroot"]:
        os.chroot(spec["chroot"])
    os.chdir(spec["cwd"])
    os.umask(0o077)
    if spec["uid"] is not None:
        _become(spec["uid"], spec["gid"], spec["read_all"] and linux)
    if linux:
        # After setuid, which clears it. The signal comes when the thread that started us ends.
        _check(_libc.prctl(_PR_SET_PDEATHSIG, spec["death_signal"], 0, 0, 0), "prctl")
    if os.getppid() != spec["parent"]:  # died before the line above
        sys.exit(75)
    os.execvpe(sys.argv[2], sys.argv[2:], dict(os.environ))  # noqa: S606 - that is its purpose


_libc = ctypes.CDLL(None, use_errno=True)  # opened before any chroot


def _check(answer: int, what: str) -> None:
    if answer != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _mount(binds: list[list[str]]) -> None:
    """Bind mounts that only this process and its children see; they end with it."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount / private")
    for source, target in binds:
        _check(_libc.mount(source.encode(), target.encode(), None, _MS_BIND | _MS_REC, None), f"bind {target}")


def _become(uid: int, gid: int, read_all: bool) -> None:
    """Another user; with `read_all` one who may still walk through folders like /root to its files."""
    held = _permitted() if read_all else 0
    capability = _CAP_DAC_READ_SEARCH if held & 1 << _CAP_DAC_READ_SEARCH else _CAP_DAC_OVERRIDE
    keep = bool(held & 1 << capability)
    if keep:
        _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl")
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if keep:
        bit = 1 << capability
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable
        _check(_libc.capset(header, data), "capset")
        _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0), "prctl")


def _permitted() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next((int(line.split()[1], 16) for line in status if line.startswith("CapPrm:")), 0)


if __name__ == "__main__":
    main()
