#!/usr/bin/env bash
# gaussforge 0.6.0 turns Gaussians where it writes SOG from a PLY whose quaternions are not of length 1. The 3DGS layout
# stores them as they were trained, of any length, and readers normalise; so do gaussforge's own .spz, .splat and
# compressed PLY. In SOG it packs the three smallest numbers as if the length were 1.
#
# Seen   Python 3.11, gaussforge 0.6.0, four Gaussians to SOG and back to PLY; degrees between what went in and came out:
#          length 1:   0.5 to 0.8
#          length 3:   16 to 108
#          length 0.1: 66 to 110
#          .spz of the same PLY: at most 0.2
# Here   our writers store quaternions of length 1 (tttlrm_jax/export/splats/writable.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet "gaussforge==0.6.0" "numpy>=2"
cat > turn.py <<'P'
import gaussforge
import numpy as np

NAMES = "x y z f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3".split()
unit = np.array([[0.8, 0.6, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.2, 0.4, 0.4, 0.8], [0.1, -0.7, 0.1, 0.7]])
forge = gaussforge.GaussForge()


def ply(length):
    table = np.zeros((4, 14), "<f4")
    table[:, 0], table[:, 6], table[:, 7:10], table[:, 10:] = range(4), 1, [-1, -2, -3], unit * length
    head = "".join(f"property float {name}\n" for name in NAMES)
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex 4\n{head}end_header\n"
    return head.encode() + table.tobytes()


def turned(length, form):
    """Degrees, the largest of the four."""
    packed = forge.convert(ply(length), "ply", form)["data"]
    head, _, body = bytes(forge.convert(bytes(packed), form, "ply")["data"]).partition(b"end_header\n")
    names = [line.split()[2].decode() for line in head.splitlines() if line.startswith(b"property")]
    table = np.frombuffer(body, "<f4").reshape(4, len(names)).astype(float)
    table = table[np.argsort(table[:, names.index("x")])]
    found = np.stack([table[:, names.index(f"rot_{n}")] for n in range(4)], axis=-1)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    cosine = np.abs((found * unit / np.linalg.norm(unit, axis=1, keepdims=True)).sum(axis=1))
    return float(2 * np.degrees(np.arccos(cosine.clip(0, 1))).max())


for length in (1.0, 3.0, 0.1):
    print(f"length {length:g}: sog {turned(length, 'sog'):.0f} degrees, spz {turned(length, 'spz'):.1f}")
as_seen = turned(1.0, "sog") < 2 and turned(3.0, "sog") > 90 and turned(0.1, "sog") > 90
raise SystemExit(0 if as_seen and turned(3.0, "spz") < 1 else "this is not what was seen")
P
env/bin/python turn.py 2>&1 | grep -v '^\[SPZ\]'
