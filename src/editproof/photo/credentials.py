"""Content Credentials (C2PA 2.2) that record the protection, through c2pa-python (the extra `c2pa`)."""

import hashlib
import io
from pathlib import Path
from typing import Any

from editproof import __version__
from editproof.errors import UserError

ALLOWED = "allowed: a PEM file with a private key (P-256, P-384, P-521, RSA, Ed25519) and its certificate chain"
CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
CURVES = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
MANIFEST: dict[str, Any] = {
    "claim_generator_info": [{"name": "editproof", "version": __version__}],
    "ingredients": [
        {
            "title": "the photo before it was protected",
            "format": "application/octet-stream",
            "relationship": "parentOf",
            "label": "original",
        }
    ],
    "assertions": [
        {
            "label": "c2pa.actions.v2",
            "data": {
                "actions": [
                    {"action": "c2pa.opened", "parameters": {"ingredientIds": ["original"]}},
                    {"action": "c2pa.edited", "description": "protected against AI editing"},
                ]
            },
        }
    ],
}


def check_credentials(path: str | Path | None) -> None:
    """Raise UserError unless files can be signed with the key and certificates in this file; None is fine."""
    if path is not None:
        _signer(Path(path)).close()


def sign(file: io.BytesIO, media_type: str, path: str | Path) -> io.BytesIO:
    """The file with a manifest that says that a photo was opened and protected; nothing of settings or the original.

    No thumbnails are made and nothing is fetched: there is no time stamp. Raises UserError.
    """
    from c2pa import Builder, C2paError, Context, Settings

    signed = io.BytesIO()
    settings = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"remote_manifest_fetch": False}}
    file.seek(0)
    try:
        Builder(MANIFEST, Context(Settings.from_dict(settings))).sign(_signer(Path(path)), media_type, file, signed)
    except C2paError as error:
        raise UserError(f"--credentials '{path}' cannot sign ({' '.join(str(error).split())}); {ALLOWED}") from None
    return signed


def key_id(path: str | Path | None) -> str | None:
    """What a signer's key is known by: SHA-256 of the public key in its certificate; None without a file."""
    if path is None:
        return None
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from cryptography.x509 import load_pem_x509_certificate

    content = Path(path).read_bytes()
    key = load_pem_x509_certificate(content[content.index(CERTIFICATE) :]).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def _signer(path: Path) -> Any:
    try:
        from c2pa import C2paError, C2paSignerInfo, Signer
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
            load_pem_private_key,
        )
    except ImportError:
        raise UserError("--credentials needs an extra; allowed: pip install 'editproof[c2pa]'") from None
    try:
        content = path.read_bytes()
        key = load_pem_private_key(content, None)
        chain = content[content.index(CERTIFICATE) :]
        curve = CURVES[key.curve.name] if isinstance(key, ec.EllipticCurvePrivateKey) else None
        algorithm = curve or ("ed25519" if isinstance(key, ed25519.Ed25519PrivateKey) else "ps256")
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Signer.from_info(C2paSignerInfo(algorithm, chain, private, None))
    except (OSError, ValueError, TypeError, KeyError, C2paError) as error:
        raise UserError(f"--credentials '{path}' cannot be used ({' '.join(str(error).split())}); {ALLOWED}") from None
