# SPDX-License-Identifier: Apache-2.0
"""Tokens and certificates, by a real gRPC client over TLS."""
import datetime

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from harness.standalone import claims_of, good_claims, spiffe
from harness.wait import wait_for


def make_csr(key, uri=None, dns=None):
    names = [x509.UniformResourceIdentifier(uri)] if uri else []
    names += [x509.DNSName(dns)] if dns else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def uris_of(cert):
    san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert san.critical
    assert len(san.value) == 1
    return san.value.get_values_for_type(x509.UniformResourceIdentifier)


def refused(shop, token, csr=None):
    csr = csr or make_csr(ec.generate_private_key(ec.SECP256R1()), spiffe("shop", "orders"))
    with pytest.raises(grpc.RpcError) as caught:
        shop.create_certificate(csr, token)
    return caught.value.code(), caught.value.details()


def test_certificate_is_for_the_tokens_identity(shop):
    key = ec.generate_private_key(ec.SECP256R1())
    answer = shop.create_certificate(make_csr(key, spiffe("shop", "orders")),
                                     shop.token("shop", "orders"), validity=3600)
    assert len(answer.cert_chain) == 2
    leaf, root = (x509.load_pem_x509_certificate(pem.encode()) for pem in answer.cert_chain)
    assert answer.cert_chain[1].encode() == shop.root_pem
    leaf.verify_directly_issued_by(root)
    assert leaf.public_key() == key.public_key()
    assert uris_of(leaf) == [spiffe("shop", "orders")]
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == \
        datetime.timedelta(seconds=3600 + 120)
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    wait_for(lambda: shop.status()["certificates"] == {"issued": 1, "refused": 0})


@pytest.mark.parametrize("csr_names", [
    {"uri": spiffe("kube-system", "admin")}, {"dns": "istiod.istio-system.svc"}, {},
])
def test_request_for_another_identity_gets_its_own(shop, csr_names):
    key = ec.generate_private_key(ec.SECP256R1())
    answer = shop.create_certificate(make_csr(key, **csr_names), shop.token("shop", "orders"))
    leaf = x509.load_pem_x509_certificate(answer.cert_chain[0].encode())
    assert uris_of(leaf) == [spiffe("shop", "orders")]
    assert leaf.subject == x509.Name([])
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


UNAUTHENTICATED = (grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")


def test_no_token(shop):
    assert refused(shop, None) == UNAUTHENTICATED


def test_token_of_a_foreign_key(shop):
    token = shop.sign_token(good_claims(), key=ec.generate_private_key(ec.SECP256R1()))
    assert refused(shop, token) == UNAUTHENTICATED
    assert "the token's signature is not by this key" in shop.log()
    assert token not in shop.log()


@pytest.mark.parametrize("changes, sentence", [
    ({"exp": 1600000000}, "the token expired at 2020-09-13T12:26:40Z"),
    ({"exp": None}, "the token never expires"),
    ({"aud": ["vault"]}, "the token is not for the audience istio-ca"),
    ({"aud": None}, "the token is not for the audience istio-ca"),
    ({"iss": "kubernetes/serviceaccount"}, "the token's issuer is not outrigger-standalone"),
    ({"sub": "orders"}, "the token's subject is no service account"),
    ({"nbf": 4000000000}, "the token is valid from 2096-10-02T07:06:40Z only"),
])
def test_wrong_claims(shop, changes, sentence):
    assert refused(shop, shop.sign_token(good_claims(**changes))) == UNAUTHENTICATED
    assert sentence in shop.log()
    assert shop.status()["certificates"] == {"issued": 0, "refused": 1}


def test_the_same_claims_unchanged_are_taken(shop):
    key = ec.generate_private_key(ec.SECP256R1())
    shop.create_certificate(make_csr(key), shop.sign_token(good_claims()))


def test_unsigned_token(shop):
    head = {"alg": "none"}
    signed = shop.sign_token(good_claims(), header=head)
    assert refused(shop, signed) == UNAUTHENTICATED
    assert refused(shop, signed.rpartition(".")[0] + ".") == UNAUTHENTICATED


@pytest.mark.parametrize("csr", ["", "hello", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n"])
def test_broken_request(shop, csr):
    with pytest.raises(grpc.RpcError) as caught:
        shop.create_certificate(csr, shop.token("shop", "orders"))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("CSR signing error (no certificate request in PEM")


def test_lifetime_over_the_limit(shop):
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(grpc.RpcError) as caught:
        shop.create_certificate(make_csr(key), shop.token("shop", "orders"),
                                validity=90 * 86400 + 1)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "greater than the max allowed TTL" in caught.value.details()


def test_nobody_may_ask_for_somebody_else(shop):
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(grpc.RpcError) as caught:
        shop.create_certificate(make_csr(key), shop.token("shop", "orders"),
                                metadata={"ImpersonatedIdentity": spiffe("shop", "frontend")})
    assert (caught.value.code(), caught.value.details()) == \
        (grpc.StatusCode.UNAUTHENTICATED, "request impersonation authentication failure")
    answer = shop.create_certificate(make_csr(key), shop.token("shop", "orders"),
                                     metadata={"CertSigner": ""})
    assert len(answer.cert_chain) == 2


def test_large_request_is_refused(shop):
    with pytest.raises(grpc.RpcError) as caught:
        shop.create_certificate("A" * 70000, shop.token("shop", "orders"))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_server_shows_its_names_and_needs_its_root(shop):
    key = ec.generate_private_key(ec.SECP256R1())
    token = shop.token("shop", "orders")
    for name in (None, "istiod.istio-system.svc", "localhost"):
        shop.create_certificate(make_csr(key), token, channel=shop.channel(server_name=name))
    foreign = x509.CertificateBuilder().subject_name(x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "other")])).issuer_name(x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, "other")])).public_key(
                key.public_key()).serial_number(1).not_valid_before(
                    datetime.datetime(2020, 1, 1)).not_valid_after(
                        datetime.datetime(2040, 1, 1)).sign(key, hashes.SHA256())
    for channel in (shop.channel(root_pem=foreign.public_bytes(serialization.Encoding.PEM)),
                    shop.channel(server_name="other.svc")):
        with pytest.raises(grpc.RpcError) as caught:
            shop.create_certificate(make_csr(key), token, channel=channel)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


# ---- outrigger token create ----

def test_token_has_the_claims_of_a_service_account(shop):
    claims = claims_of(shop.token("shop", "orders", ttl="90s"))
    assert claims.pop("exp") - claims.pop("iat") == 90
    assert claims == {
        "iss": "outrigger-standalone", "sub": "system:serviceaccount:shop:orders",
        "aud": ["istio-ca"],
        "kubernetes.io": {"namespace": "shop", "serviceaccount": {"name": "orders"}}}
    assert claims_of(shop.token("shop", "orders", audience="vault"))["aud"] == ["vault"]
    claims = claims_of(shop.token("shop", "orders"))
    assert claims["exp"] - claims["iat"] == 12 * 3600


def test_tokens_and_certificates_outlive_a_restart(shop):
    token, root = shop.token("shop", "orders"), shop.root_pem
    shop.stop()
    shop.start()
    assert shop.root_pem == root
    shop.create_certificate(make_csr(ec.generate_private_key(ec.SECP256R1())), token)


def test_token_can_be_made_before_the_first_start(new_standalone):
    standalone = new_standalone()
    token = standalone.token("shop", "orders")
    standalone.start()
    standalone.create_certificate(make_csr(ec.generate_private_key(ec.SECP256R1())), token)


@pytest.mark.parametrize("arguments, status, sentence", [
    (["create"], 2, "--service-account is missing"),
    ([], 2, "the one thing it does is: token create"),
    (["delete"], 2, "the one thing it does is: token create"),
    (["create", "--service-account", "a/b"], 2, "take names of lower-case letters"),
    (["create", "--service-account", "a", "--ttl", "1x"], 2, "1x"),
    (["create", "--service-account", "a", "--ttl", "0s"], 2, "0s"),
    (["create", "--service-account", "a", "--state-dir", "/dev/null/x"], 1, "not a directory"),
])
def test_wrong_token_commands(shop, arguments, status, sentence):
    done = shop.token_command(*arguments)
    assert done.returncode == status
    assert sentence in done.stderr
    assert done.stdout == ""
