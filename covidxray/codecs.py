"""A decoder for pydicom: RLE, lossless JPEG, 12-bit JPEG and JPEG-LS, by imagecodecs (BSD).

A damaged stream is an exception there. GDCM, which decodes the same to the bit, ended the whole
process on about one damaged stream in 300, and where it is imported, Pillow writing a PNG of 6
million pixels does so, too. pydicom's own RLE takes memory for whatever a stream says.
"""

import numpy as np
from imagecodecs import dicomrle_decode, jpeg8_decode, jpegls_decode
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.uid import JPEGLSTransferSyntaxes, RLELossless


def is_available(uid: str) -> bool:
    """pydicom asks for it."""
    return True


def decode_frame(stream: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame; how the values lie in it is told to `runner`."""
    if runner.transfer_syntax == RLELossless:
        runner.set_option("planar_configuration", 1)
        sample = np.dtype(f"<u{runner.bits_allocated // 8}")
        return bytes(dicomrle_decode(stream, sample, out=runner.frame_length("bytes")))
    decode = jpegls_decode if runner.transfer_syntax in JPEGLSTransferSyntaxes else jpeg8_decode
    pixels = decode(stream)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    runner.set_option("planar_configuration", 0)
    return pixels.tobytes()
