"""Find near-duplicate images by perceptual hash, and join the patients who share an image."""

import imagehash
import numpy as np
from PIL import Image

# Copies of one image at another size and JPEG quality differ in at most 8 of the 256 bits of their
# hashes, images of two patients in at least 44 (benchmarks/duplicate_distance.py, 599 radiographs).
DUPLICATE_BITS = 24
BLOCK = 2**16  # pairs of hashes compared at a time, to bound the memory


def perceptual_hash(pixels: np.ndarray) -> np.ndarray:
    """A 256-bit hash (`imagehash.phash`), (4,) uint64, of `pixels`, (H, W, 3) uint8 RGB.

    It hardly depends on image size and JPEG quality.
    """
    bits = imagehash.phash(Image.fromarray(pixels), hash_size=16).hash
    return np.packbits(bits.reshape(4, 64), axis=1).view(np.uint64).ravel()


def hash_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Number of bits in which hashes of shape (..., 4) differ, int64 (...)."""
    distance = np.zeros(np.broadcast_shapes(a.shape, b.shape)[:-1], np.int64)
    for word in range(4):  # several times as fast as a sum over an axis of length 4
        distance += np.bitwise_count(a[..., word] ^ b[..., word])
    return distance


def near_duplicates(
    hashes: np.ndarray, others: np.ndarray | None = None, bits: int = DUPLICATE_BITS
) -> np.ndarray:
    """Find the pairs of images whose hashes differ in at most `bits` of 256 bits.

    Args:
        hashes: (N, 4) uint64.
        others: (M, 4) uint64. None compares `hashes` with one another, each pair once.

    Returns:
        (P, 2) int64, ordered by the second column and then by the first: an index into `hashes` and
        an index into `others`. Without `others` both index `hashes`, the smaller one first.
    """
    columns = hashes if others is None else others
    size = max(1, BLOCK // max(1, len(hashes)))
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(columns), size):
        second, first = np.nonzero(
            hash_distance(columns[start : start + size, None], hashes) <= bits
        )
        found.append(np.column_stack([first, second + start]))
    pairs = np.concatenate(found)
    return pairs[pairs[:, 0] < pairs[:, 1]] if others is None else pairs


def merge_groups_with_copies(groups: np.ndarray, hashes: np.ndarray) -> tuple[np.ndarray, int]:
    """Join all patients who share an image into one group, so that no split separates its copies.

    `groups` are the patients, (N,) int64; `hashes` are (N, 4) uint64. Returns the merged groups,
    numbered from 0, and the number of images that have a copy under another patient.
    """
    pairs = near_duplicates(hashes)
    pairs = pairs[groups[pairs[:, 0]] != groups[pairs[:, 1]]]
    merged = groups.copy()
    for first, second in pairs:
        merged[merged == merged[first]] = merged[second]
    return np.unique(merged, return_inverse=True)[1], len(np.unique(pairs))
