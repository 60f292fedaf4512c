# SPDX-License-Identifier: Apache-2.0
"""A certificate authority for tests, and the certificates a test wants to be wrong."""
import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def key_pem(key):
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                             serialization.NoEncryption())


def cert_pem(cert):
    return cert.public_bytes(serialization.Encoding.PEM)


def _general_name(text):
    if "://" in text:
        return x509.UniformResourceIdentifier(text)
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


class Authority:
    """A root, and (with `intermediate=True`) an intermediate that signs in its place."""

    def __init__(self, name="test root", intermediate=False):
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._authority_cert(name, self.root_key, None, None)
        self.key, self.cert, self.between = self.root_key, self.root, []
        if intermediate:
            self.key = ec.generate_private_key(ec.SECP256R1())
            self.cert = self._authority_cert(name + " intermediate", self.key, self.root,
                                             self.root_key)
            self.between = [self.cert]

    @staticmethod
    def _authority_cert(name, key, issuer, issuer_key):
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        builder = (x509.CertificateBuilder().subject_name(subject)
                   .issuer_name(issuer.subject if issuer else subject)
                   .public_key(key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(now() - DAY).not_valid_after(now() + 3650 * DAY)
                   .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
                   .add_extension(x509.KeyUsage(False, False, False, False, False, True, True,
                                                False, False), True)
                   .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
                                  False))
        return builder.sign(issuer_key or key, hashes.SHA256())

    @property
    def root_pem(self):
        return cert_pem(self.root)

    def sign(self, public_key, names, not_before=None, not_after=None,
             usages=(ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)):
        """A leaf over `public_key` for DNS names, IP addresses and URIs. A certificate object."""
        before = not_before or now() - datetime.timedelta(minutes=2)
        builder = (x509.CertificateBuilder().subject_name(x509.Name([]))
                   .issuer_name(self.cert.subject).public_key(public_key)
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(before).not_valid_after(not_after or now() + DAY)
                   .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
                   .add_extension(x509.KeyUsage(True, False, True, False, False, False, False,
                                                False, False), True)
                   .add_extension(x509.SubjectAlternativeName(
                       [_general_name(name) for name in names]), True))
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(usages)), False)
        return builder.sign(self.key, hashes.SHA256())

    def chain_pem(self, cert):
        """Leaf and intermediates, as a server shows them."""
        return b"".join(cert_pem(each) for each in [cert, *self.between])

    def chain_list(self, cert):
        """Leaf first, root last, as Istio's CA answers."""
        return [cert_pem(each).decode() for each in [cert, *self.between, self.root]]

    def issue(self, names, **options):
        """(key PEM, chain PEM) with a new ECDSA P-256 key; options as for sign()."""
        key = ec.generate_private_key(ec.SECP256R1())
        return key_pem(key), self.chain_pem(self.sign(key.public_key(), names, **options))

    def issue_expired(self, names):
        return self.issue(names, not_before=now() - 3 * DAY, not_after=now() - DAY)


def csr_uris(csr_pem):
    """(request, its URI names); the request's own signature is checked."""
    request = x509.load_pem_x509_csr(csr_pem if isinstance(csr_pem, bytes) else csr_pem.encode())
    assert request.is_signature_valid
    san = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return request, san.value.get_values_for_type(x509.UniformResourceIdentifier)
