"""Builds wheels for all platforms on one machine, with Zig's Clang from PyPI, and checks them (check_wheel.py):

    python packaging/wheels.py [--output DIST] [PLATFORM …]

Prints the path of each wheel. PLATFORM is a wheel's platform tag, of those in TARGETS; the default is all of them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import ziglang
from check_wheel import check

REPOSITORY = Path(__file__).resolve().parents[1]
# Platform tags and what Zig calls them. The versions are of glibc and of macOS.
TARGETS = {
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "macosx_11_0_x86_64": "x86_64-macos.11.0",
    "macosx_11_0_arm64": "aarch64-macos.11.0",
    "win_amd64": "x86_64-windows-gnu",
}


def build(platform: str, output: Path) -> Path:
    """The wheel of one platform. Raises CalledProcessError when the build fails."""
    zig = Path(ziglang.__file__).parent / ("zig.exe" if sys.platform == "win32" else "zig")
    settings = {
        "wheel.tags": f"py3-none-{platform}",
        "build-dir": f"build/wheels/{platform}",
        "cmake.args": f"--toolchain={(REPOSITORY / 'packaging' / 'zig.cmake').as_posix()}",
        "cmake.define.ZIG": zig.as_posix(),
        "cmake.define.ZIG_TARGET": TARGETS[platform],
    }
    options = [f"--config-setting={name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", output, *options, REPOSITORY]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return max(output.glob(f"*-py3-none-{platform}.whl"), key=lambda wheel: wheel.stat().st_mtime_ns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM", help=f"of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "dist", metavar="DIST")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.platforms) - set(TARGETS)):
        parser.error(f"unknown platforms {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    for platform in arguments.platforms or TARGETS:
        wheel = build(platform, arguments.output)
        check(wheel)
        print(wheel)


if __name__ == "__main__":
    main()
