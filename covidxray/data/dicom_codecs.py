"""A decoder plugin of pydicom for RLE, lossless JPEG, 12-bit JPEG and JPEG-LS: imagecodecs (BSD).

imagecodecs raises an exception for a damaged stream. GDCM decodes the same values, but one damaged
stream in about 300 ended the whole process, and after importing GDCM, writing a large PNG with
Pillow does so, too. pydicom's own RLE decoder allocates whatever size a stream claims.
"""

import numpy as np
from imagecodecs import dicomrle_decode, jpeg8_decode, jpegls_decode
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import JPEGLSTransferSyntaxes, RLELossless


def is_available(uid: str) -> bool:
    """Whether the plugin can be used; pydicom asks before the first frame."""
    return True


def decode_frame(stream: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame, and set the options of `runner` that describe the order of the result."""
    if runner.transfer_syntax == RLELossless:
        runner.set_option("planar_configuration", 1)
        sample = np.dtype(f"<u{runner.bits_allocated // 8}")
        return bytes(dicomrle_decode(stream, sample, out=int(runner.frame_length("bytes"))))
    decode = jpegls_decode if runner.transfer_syntax in JPEGLSTransferSyntaxes else jpeg8_decode
    pixels = decode(stream)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    runner.set_option("planar_configuration", 0)
    return pixels.tobytes()
