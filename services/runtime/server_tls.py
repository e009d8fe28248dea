"""TLS of a server, by files that may be renewed while it runs."""

import ssl
from pathlib import Path
from typing import Self

import grpc
import structlog

from services.runtime.settings import ServerSettings
from services.runtime.watched_files import WatchedFiles
from sirdar.errors import FailedPrecondition

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class ServerTls:
    """The files as they are now: each handshake looks whether they are others.

    New ones that cannot be used leave those before in place, and the log says so: they may be
    half written, and are looked at again when they change.
    """

    def __init__(self, certificate_file: Path, key_file: Path, client_ca_file: Path | None) -> None:
        """Raises FailedPrecondition for files that cannot be read or do not belong together."""
        self.certificate_file = certificate_file
        self.key_file = key_file
        self.client_ca_file = client_ca_file
        self._watched = WatchedFiles(certificate_file, key_file, client_ca_file)
        self.context()

    @classmethod
    def of(cls, settings: ServerSettings) -> Self | None:
        """As the settings ask for it; None without. Raises FailedPrecondition."""
        certificate, key = settings.tls_certificate_file, settings.tls_key_file
        if certificate is not None and key is not None:
            return cls(certificate, key, settings.tls_client_ca_file)
        if certificate or key or settings.tls_client_ca_file:
            raise FailedPrecondition(
                "TLS needs both tls_certificate_file and tls_key_file", reason="BAD_SETTINGS"
            )
        return None

    def credentials(self) -> grpc.ServerCredentials:
        """For a port of a gRPC server. Raises FailedPrecondition."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._renewed,  # type: ignore[arg-type]  # None is for no change
            self.client_ca_file is not None,
        )

    def context(self) -> ssl.SSLContext:
        """For a server of the standard library, as the files are now. Raises FailedPrecondition."""
        made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            self.key_file.read_bytes()  # the standard library does not say which file is missing
            made.load_cert_chain(self.certificate_file, self.key_file)
            if self.client_ca_file is not None:
                made.load_verify_locations(self.client_ca_file)
                made.verify_mode = ssl.CERT_REQUIRED
                # Whoever resumed a session would not have to show a certificate again.
                made.num_tickets = 0
                made.options |= ssl.OP_NO_TICKET
        except OSError as error:  # SSLError is one
            raise FailedPrecondition(
                f"cannot use the TLS files {self.certificate_file} and {self.key_file}: {error}",
                reason="BAD_SETTINGS",
            ) from error
        return made

    def renewing_context(self) -> ssl.SSLContext:
        """As `context`; its handshakes are made with the files as they are then."""
        first = latest = self.context()
        watched = WatchedFiles(self.certificate_file, self.key_file, self.client_ca_file)

        def renew(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
            nonlocal latest
            if watched.changed():
                try:
                    latest = self.context()
                except FailedPrecondition as error:
                    _say_kept(error)
            connection.context = latest

        first.sni_callback = renew
        return first

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """For the next handshake; None: as before. gRPC takes what this raises for a failure."""
        if not self._watched.changed():
            return None
        try:
            self.context()  # that they belong together
            renewed = self._configuration()
        except FailedPrecondition as error:
            _say_kept(error)
            return None
        log.info("TLS certificate renewed", certificate_file=str(self.certificate_file))
        return renewed

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        try:
            pair = self.key_file.read_bytes(), self.certificate_file.read_bytes()
            roots = self.client_ca_file.read_bytes() if self.client_ca_file else None
        except OSError as error:
            raise FailedPrecondition(
                f"cannot read TLS file: {error}", reason="BAD_SETTINGS"
            ) from error
        return grpc.ssl_server_certificate_configuration([pair], roots)


def _say_kept(error: FailedPrecondition) -> None:
    log.error("renewed TLS files cannot be used; those before are kept", message=error.message)
