#!/usr/bin/env bash
# gaussforge 0.6.0 cannot `read` a scene without spherical harmonics above degree 0 (every .splat is one): it answers
# {'error': 'std::bad_cast'}, whatever the format. `convert` of the same bytes works, and so does `read` of degree 1.
#
# Seen   Python 3.11, gaussforge 0.6.0: ply and splat of degree 0: std::bad_cast; ply of degree 1: read
# Here   tests/fast/export/test_independent_readers.py reads .splat through `convert`.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet "gaussforge==0.6.0"
cat > read.py <<'P'
import struct

import gaussforge

forge = gaussforge.GaussForge()
BASE = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()


def ply(rest):
    names = BASE + [f"f_rest_{n}" for n in range(rest)]
    head = "".join(f"property float {name}\n" for name in names)
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex 1\n{head}end_header\n"
    return head.encode() + struct.pack(f"<{len(names)}f", *[0.0] * 10, 1.0, *[0.0] * (3 + rest))


def said(content, form):
    answer = forge.read(content, form)
    return answer.get("error") or f"{answer['data']['numPoints']} Gaussian"


splat = bytes(forge.convert(ply(0), "ply", "splat")["data"])
found = {"ply, degree 0": said(ply(0), "ply"), "splat": said(splat, "splat"), "ply, degree 1": said(ply(9), "ply")}
for name, text in found.items():
    print(f"{name}: {text}")
back = forge.convert(splat, "splat", "ply")
print("convert of the splat:", "error" if "error" in back else f"{len(back['data'])} bytes")
as_seen = list(found.values()) == ["std::bad_cast", "std::bad_cast", "1 Gaussian"] and "error" not in back
raise SystemExit(0 if as_seen else "this is not what was seen")
P
env/bin/python read.py
