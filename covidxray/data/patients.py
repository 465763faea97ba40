"""Digests of patients, which reveal no ID."""

import hashlib


def patient_digest(patient: str, salt: bytes) -> str:
    """Digest of a patient's key, by which two data sets that share a patient are recognised.

    BLAKE2b keyed with `salt` (1 to 64 bytes), 16 bytes in hexadecimal. It does not protect the key
    from somebody who has the salt and tries all numbers of a hospital. `patient` is the source and
    the patient id of a manifest joined by NUL, or the id in a DICOM header.
    """
    key = patient.encode(errors="surrogateescape")
    return hashlib.blake2b(key, key=salt, digest_size=16).hexdigest()
