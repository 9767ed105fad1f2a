"""Batches of similarities Sim(3): `point_out = scale * rotation @ point_in + translation`.

float64 NumPy. The chart is that of the product: translation [3], rotation vector [3] (radians), log
of the scale, in this order, so a coordinate means the same wherever it is read.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.spatial.transform import Rotation

SIZE = 7  # coordinates of one similarity


@dataclasses.dataclass(frozen=True, kw_only=True)
class Similarities:
    """One similarity per entry."""

    scale: np.ndarray  # [similarity]
    rotation: np.ndarray  # [similarity, 3, 3]
    translation: np.ndarray  # [similarity, 3], in output units

    @classmethod
    def of_poses(cls, poses: np.ndarray, scale: np.ndarray | float = 1.0) -> "Similarities":
        """Rigid poses [similarity, 4, 4] with scales [similarity] or one for all."""
        scales = np.broadcast_to(np.asarray(scale, np.float64), len(poses)).copy()
        poses = np.asarray(poses, np.float64)
        return cls(scale=scales, rotation=poses[:, :3, :3], translation=poses[:, :3, 3])

    @classmethod
    def from_chart(cls, coordinates: np.ndarray) -> "Similarities":
        """Of coordinates [similarity, 7]."""
        return cls(
            scale=np.exp(coordinates[:, 6]),
            rotation=Rotation.from_rotvec(coordinates[:, 3:6]).as_matrix(),
            translation=coordinates[:, :3],
        )

    @classmethod
    def joined(cls, parts: Sequence["Similarities"]) -> "Similarities":
        """All of them, one after another."""
        names = [each.name for each in dataclasses.fields(cls)]
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})

    def chart(self) -> np.ndarray:
        """Coordinates [similarity, 7]."""
        turn = Rotation.from_matrix(self.rotation).as_rotvec()
        return np.concatenate([self.translation, turn, np.log(self.scale)[:, None]], axis=1)

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, index) -> "Similarities":
        return Similarities(
            scale=self.scale[index], rotation=self.rotation[index],
            translation=self.translation[index],
        )  # fmt: skip

    def __matmul__(self, other: "Similarities") -> "Similarities":
        """First `other`, then this one."""
        moved = np.einsum("nij,nj->ni", self.rotation, other.translation)
        return Similarities(
            scale=self.scale * other.scale, rotation=self.rotation @ other.rotation,
            translation=self.scale[:, None] * moved + self.translation,
        )  # fmt: skip

    def inverse(self) -> "Similarities":
        turned = np.swapaxes(self.rotation, 1, 2)
        back = np.einsum("nij,nj->ni", turned, self.translation) / self.scale[:, None]
        return Similarities(scale=1 / self.scale, rotation=turned, translation=-back)

    def poses(self) -> np.ndarray:
        """Rigid poses [similarity, 4, 4]: rotation and place, without the scale."""
        out = np.zeros((len(self), 4, 4))
        out[:, :3, :3], out[:, :3, 3], out[:, 3, 3] = self.rotation, self.translation, 1.0
        return out
