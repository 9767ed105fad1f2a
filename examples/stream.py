"""Streams views chunk by chunk, saves the state and goes on from it: `python examples/stream.py`.

The fast weights are the memory: they keep their size however many views come. Writes state/ and
streamed.ply. Options: a capture's folder.
"""

import sys

import tttlrm_jax as tj

capture = tj.open_capture(sys.argv[1] if len(sys.argv) > 1 else None)
model = tj.load()

# Each chunk is written into the fast weights once and read at once. The cameras of the first chunk
# fix the frame of coordinates; all that comes back is in the frame of the capture.
stream = model.stream(chunk_views=4)
for frames in ([1, 4, 7, 10], [13, 15, 18, 21]):
    gaussians = stream.step(model.views(capture, frames))
    print(f"{stream.views_seen} views: {len(gaussians.mean)} Gaussians")

stream.save("state", overwrite=True)

# Another program, another day: the stream goes on where it stopped.
later = tj.load_state("state")
later.step(model.views(capture, [25, 28]))
print(f"{later.views_seen} views, of which {stream.views_seen} before it was saved")

# Pictures of the scene from cameras alone, and the Gaussians as a file.
pictures = later.render(capture.cameras([0, 8], resolution=(64, 64))).rgb
print(f"{len(pictures)} pictures of {pictures.shape[2]}x{pictures.shape[1]} pixels")
later.save_scene("streamed.ply")
