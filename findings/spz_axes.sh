#!/usr/bin/env bash
# Converters copy the axes between .spz and PLY, though the formats name different ones: .spz has y up and z backward
# (RUB; README of nianticlabs/spz, which says that PLY typically has y down, RDF, and whose own tools turn half round x).
# splat-transform turns PLY for glTF, whose y is up, and turns .spz in the same way: what is up in the .spz is down in the
# .glb. A scene that Niantic's tools or viewers wrote comes out upside down; one that these converters wrote does so there.
#
# Seen   @playcanvas/splat-transform 3.7.0 (Node.js 20), gsply 0.4.6, gaussforge 0.6.0 (Python 3.11), a Gaussian at
#        (1, 2, 3) in a .spz written from the description (24-bit fixed point, 12 fractional bits):
#          splat-transform to .ply: 1 2 3; to .glb: -1 -2 3
#          gsply to .ply: 1 2 3
#          gaussforge to .ply: 1 2 3
#        By the axes that the formats name .ply would have 1 -2 -3, and .glb y = 2.
# Here   we write .spz in its own axes (tttlrm_jax/export/splats/frames.py); docs/guides/formats.md says how to turn.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet "gaussforge==0.6.0" "gsply==0.4.6"
npm install --silent --no-fund --no-audit "@playcanvas/splat-transform@3.7.0" >/dev/null 2>&1
cat > write.py <<'P'
import gzip
import struct

head = struct.pack("<4sIIBBBB", b"NGSP", 3, 1, 0, 12, 0, 0)
place = b"".join(struct.pack("<i", value << 12)[:3] for value in (1, 2, 3))
rest = bytes([200]) + bytes([128] * 3) + bytes([100] * 3) + struct.pack("<I", 3 << 30)
open("in.spz", "wb").write(gzip.compress(head + place + rest))
P
env/bin/python write.py
for target in ply glb; do node_modules/.bin/splat-transform -q -w in.spz "splat-transform.$target"; done
cat > read.py <<'P'
import json
import struct

import gaussforge
import gsply


def of_ply(content):
    head, _, body = content.partition(b"end_header\n")
    names = [line.split()[2].decode() for line in head.splitlines() if line.startswith(b"property")]
    return [round(struct.unpack_from("<f", body, 4 * names.index(name))[0], 3) for name in "xyz"]


def of_glb(content):
    length = struct.unpack_from("<I", content, 12)[0]
    document = json.loads(content[20 : 20 + length])
    assert not any({"matrix", "rotation", "scale"} & set(node) for node in document["nodes"])
    number = document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    return [round(value, 3) for value in document["accessors"][number]["min"]]


spz = open("in.spz", "rb").read()
scene = gsply.read_spz("in.spz")
gsply.plywrite("gsply.ply", scene.means, scene.scales, scene.quats, scene.opacities, scene.sh0, scene.shN)
found = {
    "splat-transform to .ply": of_ply(open("splat-transform.ply", "rb").read()),
    "splat-transform to .glb": of_glb(open("splat-transform.glb", "rb").read()),
    "gsply to .ply": of_ply(open("gsply.ply", "rb").read()),
    "gaussforge to .ply": of_ply(bytes(gaussforge.GaussForge().convert(spz, "spz", "ply")["data"])),
}
for name, place in found.items():
    print(f"{name}:", *place)
as_seen = list(found.values()) == [[1, 2, 3], [-1, -2, 3], [1, 2, 3], [1, 2, 3]]
raise SystemExit(0 if as_seen else "this is not what was seen")
P
env/bin/python read.py | grep -v '^\[SPZ\]'
