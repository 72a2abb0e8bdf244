# Build: docker build -t gatepass .
# Run:   docker run --rm -v "$PWD/gatepass.yaml:/etc/gatepass/gatepass.yaml:ro" -p 127.0.0.1:8118:8118 gatepass
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src ./src
COPY crates ./crates
# Cargo wants every target it lists to be there.
COPY benches ./benches
# For the feature `negotiate`.
RUN apt-get update && apt-get install -y --no-install-recommends libkrb5-dev libclang-dev && rm -rf /var/lib/apt/lists/*
RUN cargo build --release --locked --features full --bin gatepass \
 && mkdir -p /out/data /out/lib && cp target/release/gatepass /out/ && chmod 0770 /out/data \
 && ldd /out/gatepass | awk '/krb5|gssapi|k5crypto|com_err|keyutils/ { print $3 }' | xargs -I{} cp {} /out/lib/

# No shell, no package manager; certificates of the public CAs are in it. The user is `nonroot` (65532).
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/gatepass /usr/local/bin/gatepass
# Kerberos' libraries, which the base image lacks.
COPY --from=build /out/lib/ /usr/lib/
# Also for a user that is a number nobody chose, who is in group 0 (OpenShift).
COPY --from=build --chown=nonroot:root /out/data /var/lib/gatepass
# Whoever starts the container chose every file in it, whatever number owns it outside.
ENV GATEPASS_SAFE=*
ENV GATEPASS_HOME=/var/lib/gatepass
VOLUME /var/lib/gatepass
EXPOSE 8118
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=2s CMD ["/usr/local/bin/gatepass", "health"]
ENTRYPOINT ["/usr/local/bin/gatepass"]
CMD ["run"]
