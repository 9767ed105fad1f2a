"""Films give their stored frames at their own times, upright, with square pixels."""

import contextlib
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from tttlrm_jax.core.errors import InputError
from tttlrm_jax.sequences.sequence import FrameSelection
from tttlrm_jax.sequences.video_promises import read_header
from tttlrm_jax.sequences.videos import open_video

COUNT, HEIGHT, WIDTH = 24, 32, 64
STAMPS = np.concatenate([np.arange(12) / 30, 0.4 + np.arange(12) / 24])
CHANGING = "settb=1/90000,setpts='if(lt(N,12),N/30,0.4+(N-12)/24)/TB'"


def ffmpeg(*arguments, pictures=b""):
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-hide_banner"]
    subprocess.run([*program, *map(str, arguments)], input=pictures, check=True)


def pictures():
    """A bright square that moves over a dark ground, the row says the number of the frame."""
    frames = np.full((COUNT, HEIGHT, WIDTH, 3), 40, np.uint8)
    for number, frame in enumerate(frames):
        frame[number : number + 8, 8:24] = 220
    return frames


def write(path, *options, filters="null", rate=30, sound=False):
    """A film of `pictures`, encoded without loss worth the name."""
    ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", rate, "-i", "-",
        *(("-f", "lavfi", "-i", "sine=duration=4") if sound else ()), "-vf", filters,
        "-c:v", "libx264", "-qp", 10, "-pix_fmt", "yuv420p", "-fps_mode", "passthrough",
        *options, path, pictures=pictures().tobytes(),
    )  # fmt: skip
    return path


def frames_of(path, **selection):
    sequence = open_video(path, FrameSelection(**selection))
    frames = list(sequence.frames())
    seconds = frames[-1].time - frames[0].time
    return sequence, frames, sequence.shortfall(len(frames), seconds)


def shown_numbers(frames):
    """The numbers that the pictures show."""
    rows = [np.flatnonzero(frame.image[:, 16].mean(axis=-1) > 130) for frame in frames]
    return [int(found[0]) for found in rows]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov", "webm"])
@pytest.mark.parametrize("sound", [False, True])
def test_a_film_of_changing_rate(tmp_path, ending, sound):
    codec = ("-c:v", "libvpx", "-b:v", "2M") if ending == "webm" else ()
    codec = ("-enc_time_base", "1:90000", *codec)
    sounds = ("-c:a", "libopus") if ending == "webm" and sound else ()
    path = write(tmp_path / f"film.{ending}", *codec, *sounds, filters=CHANGING, sound=sound)
    _, frames, said = frames_of(path)
    assert shown_numbers(frames) == list(range(COUNT))
    times = np.array([frame.time for frame in frames])
    np.testing.assert_allclose(times - times[0], STAMPS, atol=1.1e-3)  # Matroska has milliseconds
    assert said is None
    _, frames, said = frames_of(path, start=2, stride=5)
    assert shown_numbers(frames) == [2, 7, 12, 17, 22]
    times = np.array([frame.time for frame in frames])
    np.testing.assert_allclose(times - times[0], STAMPS[2::5] - STAMPS[2], atol=1.1e-3)
    assert said is None
    assert shown_numbers(frames_of(path, frames="3,13-14")[1]) == [3, 13, 14]


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_longer_sound_promises_no_frames(tmp_path, ending):
    sequence, frames, said = frames_of(write(tmp_path / f"film.{ending}", sound=True))
    assert len(frames) == COUNT
    assert sequence.expected_frames == COUNT
    assert said is None


def test_a_film_with_sound_that_is_cut_off_says_so(tmp_path):
    path = write(tmp_path / "film.mp4", "-movflags", "+faststart", sound=True)
    content = path.read_bytes()
    path.write_bytes(
        content[: content.index(b"mdat") + (len(content) - content.index(b"mdat")) // 6]
    )
    _, frames, said = frames_of(path)
    assert said.startswith(f"frames: {len(frames)} of {COUNT} promised could be decoded")


def test_pixels_that_are_not_square(tmp_path):
    path = write(tmp_path / "film.mp4", filters="setsar=3/2")
    sequence, frames, _ = frames_of(path)
    assert sequence.image_size == (HEIGHT, 96)
    assert frames[0].image.shape == (HEIGHT, 96, 3)
    assert "3:2, not square: pictures are stretched to 96x32" in sequence.notes[0]
    bright = np.flatnonzero(frames[3].image[6].mean(axis=-1) > 130)
    np.testing.assert_allclose([bright[0], bright[-1] + 1], [12, 36], atol=1)


def test_a_film_that_is_turned(tmp_path):
    path = write(tmp_path / "film.mp4")
    turned = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", 90, "-i", path, "-c", "copy", turned)
    sequence, frames, _ = frames_of(turned)
    assert sequence.image_size == (WIDTH, HEIGHT)
    upright = np.rot90(frames_of(path)[1][5].image)
    assert np.abs(frames[5].image.astype(int) - upright).mean() < 2


def test_what_the_edit_list_cuts_is_neither_shown_nor_missed(tmp_path):
    path = write(tmp_path / "film.mp4", "-g", 24, "-bf", 0)
    cut = tmp_path / "cut.mp4"
    ffmpeg("-ss", 0.2, "-i", path, "-c", "copy", cut)
    _, frames, said = frames_of(cut)
    assert shown_numbers(frames) == list(range(6, COUNT))
    assert frames[0].time == pytest.approx(0, abs=1e-3)
    assert said is None


def test_frames_in_fragments(tmp_path):
    path = write(tmp_path / "film.mp4", "-movflags", "+frag_keyframe+empty_moov", "-g", 6)
    _, frames, said = frames_of(path)
    assert len(frames) == COUNT
    assert said is None


def test_a_bare_stream_says_that_its_times_are_assumed(tmp_path):
    path = write(tmp_path / "film.h264", "-f", "h264")
    sequence, frames, _ = frames_of(path)
    assert len(frames) == COUNT
    assert "bare h264 stream without times" in sequence.notes[0]


def test_two_picture_tracks_are_said(tmp_path):
    path = write(tmp_path / "film.mp4")
    both = tmp_path / "both.mp4"
    ffmpeg("-i", path, "-i", path, "-map", "0:v", "-map", "1:v", "-c", "copy", both)
    sequence, frames, said = frames_of(both)
    assert len(frames) == COUNT
    assert said is None
    assert "2 picture tracks: the first is read" in sequence.notes[0]


def test_names_that_look_like_addresses_are_files(tmp_path):
    path = write(tmp_path / "film.mp4")
    path = path.rename(tmp_path / "http:walk %03d.mp4")
    assert len(frames_of(path)[1]) == COUNT


def test_sound_alone_is_no_film(tmp_path):
    path = tmp_path / "sound.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", path)
    with pytest.raises(InputError, match=r"video=.*sound\.mp4 cannot be decoded"):
        open_video(path, FrameSelection())


def test_the_header_of_a_film():
    header = read_header([
        "Input #0, matroska,webm, from 'file:/x.mkv':", "  Duration: 01:00:02.50, start: 0.0",
        "  Stream #0:0: Audio: aac (LC), 44100 Hz, mono, fltp (default)",
        "      DURATION        : 01:00:02.500000000",
        "  Stream #0:1(eng): Video: h264, yuv420p, 64x48 [SAR 4:3 DAR 16:9], 29.97 fps, 30 tbr",
        "      DURATION        : 00:59:01.250000000",
        "  Stream #0:2: Video: mjpeg, yuvj420p, 500x500, 90k tbr (attached pic)",
    ])  # fmt: skip
    assert (header.kind, header.num_tracks, header.alone) == ("matroska,webm", 1, True)
    assert (header.duration, header.rate, header.pixel_aspect) == (3541.25, 29.97, "4:3")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"start": 2, "stride": 3},
        {"start": 30},
        {"frames": "3-5,9,80"},
        {"stride": 2, "max_frames": 4},
    ],
    ids=str,
)
@pytest.mark.parametrize("total", [0, 1, 9, 24])
def test_numbers_are_counted_without_listing_them(options, total):
    selection = FrameSelection(**options)
    assert selection.count(total) == len(list(selection.numbers(total)))


@pytest.mark.parametrize("seed", range(8))
def test_damaged_films_are_read_or_refused(tmp_path, seed):
    path = write(tmp_path / f"film.{('mp4', 'mkv')[seed % 2]}")
    rng, content = np.random.default_rng(seed), bytearray(path.read_bytes())
    index = max(content.find(b"moov"), 0)
    for place in rng.integers(index, min(len(content), index + 800), 12):
        content[place] = rng.integers(256)
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert len(frames_of(path)[1]) <= COUNT
