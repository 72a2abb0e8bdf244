"""A SPIFFE Workload API on a Unix socket, for tests, on the stubs of the Python package `spiffe`: two X509-SVIDs, issued anew every few seconds.
agent.py SOCKET CA.pem CA.key SECONDS"""
import datetime
import sys
import threading
import time
from concurrent import futures

import grpc
import spiffe._proto.workload_pb2 as messages
import spiffe._proto.workload_pb2_grpc as services
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

socket, ca_file, key_file, seconds = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
IDS = ["spiffe://gp.test/gate", "spiffe://gp.test/second"]
ca = x509.load_pem_x509_certificate(open(ca_file, "rb").read())
ca_key = serialization.load_pem_private_key(open(key_file, "rb").read(), None)
der = lambda certificate: certificate.public_bytes(serialization.Encoding.DER)


def svid(id):
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIRE"), x509.NameAttribute(NameOID.COMMON_NAME, id.rsplit("/", 1)[1])]
    certificate = (
        x509.CertificateBuilder().subject_name(x509.Name(names)).issuer_name(ca.subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(seconds=10)).not_valid_after(now + datetime.timedelta(seconds=60))
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(id)]), False).sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return messages.X509SVID(spiffe_id=id, x509_svid=der(certificate), x509_svid_key=private, bundle=der(ca))


class Workload(services.SpiffeWorkloadAPIServicer):
    def __init__(self):
        self.changed = threading.Condition()
        self.number, self.svids = 0, []
        self.issue()

    def issue(self):
        svids = [svid(id) for id in IDS]
        with self.changed:
            self.number, self.svids = self.number + 1, svids
            self.changed.notify_all()

    def FetchX509SVID(self, request, context):
        if dict(context.invocation_metadata()).get("workload.spiffe.io") != "true":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
        sent = 0
        while context.is_active():
            with self.changed:
                if self.number == sent and not self.changed.wait_for(lambda: self.number != sent, 1):
                    continue
                sent, svids = self.number, self.svids
            yield messages.X509SVIDResponse(svids=svids)


workload = Workload()
server = grpc.server(futures.ThreadPoolExecutor(16))
services.add_SpiffeWorkloadAPIServicer_to_server(workload, server)
server.add_insecure_port("unix:" + socket)
server.start()
while True:
    time.sleep(seconds)
    workload.issue()
