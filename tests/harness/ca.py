# SPDX-License-Identifier: Apache-2.0
"""Istio's CA (istio.v1.auth.IstioCertificateService) on grpcio.

xds-protos does not carry its messages; they are described here, with the field numbers of
istio/api security/v1alpha1/ca.proto."""
import datetime
import threading
import time

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

from . import pki
from .wait import wait_for

assert struct_pb2  # its file must be in the pool before ours is added


def _messages():
    file = descriptor_pb2.FileDescriptorProto(
        name="security/v1alpha1/ca.proto", package="istio.v1.auth", syntax="proto3",
        dependency=["google/protobuf/struct.proto"])
    field = descriptor_pb2.FieldDescriptorProto
    request = file.message_type.add(name="IstioCertificateRequest")
    request.field.add(name="csr", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    request.field.add(name="validity_duration", number=3, type=field.TYPE_INT64,
                      label=field.LABEL_OPTIONAL)
    request.field.add(name="metadata", number=4, type=field.TYPE_MESSAGE,
                      type_name=".google.protobuf.Struct", label=field.LABEL_OPTIONAL)
    response = file.message_type.add(name="IstioCertificateResponse")
    response.field.add(name="cert_chain", number=1, type=field.TYPE_STRING,
                       label=field.LABEL_REPEATED)
    pool = descriptor_pool.Default()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName("istio.v1.auth." + name))
            for name in ("IstioCertificateRequest", "IstioCertificateResponse")]


CertificateRequest, CertificateResponse = _messages()


class Signed:
    """One request as it came, and what became of it."""

    def __init__(self, request, context):
        self.request = request
        self.metadata = dict(context.invocation_metadata())  # header name -> value
        self.time_remaining_s = context.time_remaining()     # until the caller's deadline
        self.at = time.monotonic()
        self.code = None
        self.cert = None


class CertificateService:
    """Signs what it is asked, with the URI name of the CSR, unless told otherwise.

    token: what `authorization` must be ("Bearer <token>"), None accepts all.
    ttl: a timedelta that overrides the validity asked for.
    change: a function from the answer (a list of PEM texts) and the CSR to what is sent instead."""

    def __init__(self, authority, token=None, ttl=None, change=None):
        self.authority, self.token, self.ttl, self.change = authority, token, ttl, change
        self.signed = []
        self._failures = []
        self._lock = threading.Lock()

    def fail_next(self, code, count=1, details="test failure"):
        """The next `count` requests end with this status."""
        with self._lock:
            self._failures += [(code, details)] * count

    def wait_for_signed(self, count=1, deadline_s=30):
        return wait_for(lambda: [s for s in self.signed if s.code == grpc.StatusCode.OK][:count]
                        if self.successes() >= count else None, deadline_s,
                        f"{count} certificates signed")

    def successes(self):
        return sum(1 for each in self.signed if each.code == grpc.StatusCode.OK)

    def register(self, server):
        handler = grpc.unary_unary_rpc_method_handler(
            self._create, request_deserializer=CertificateRequest.FromString,
            response_serializer=CertificateResponse.SerializeToString)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
            "istio.v1.auth.IstioCertificateService", {"CreateCertificate": handler}),))

    def _create(self, request, context):
        entry = Signed(request, context)
        with self._lock:
            self.signed.append(entry)
            failure = self._failures.pop(0) if self._failures else None
        if failure is None and self.token is not None and \
                entry.metadata.get("authorization") != "Bearer " + self.token:
            failure = (grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")
        if failure:
            entry.code = failure[0]
            context.abort(*failure)
        try:
            csr, uris = pki.csr_uris(request.csr)
        except (ValueError, AssertionError) as err:
            entry.code = grpc.StatusCode.INVALID_ARGUMENT
            context.abort(entry.code, f"CSR: {err}")
        ttl = self.ttl or datetime.timedelta(seconds=request.validity_duration)
        entry.cert = self.authority.sign(csr.public_key(), uris, not_after=pki.now() + ttl)
        entry.code = grpc.StatusCode.OK
        chain = self.authority.chain_list(entry.cert)
        return CertificateResponse(cert_chain=self.change(chain, csr) if self.change else chain)
