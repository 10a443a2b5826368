# shellcheck shell=bash
# A certificate authority of the tests' own, the servers' certificate for `localhost` and
# 127.0.0.1, and a second authority that signed none of it.

certificates=$servers_dir/certificates

ensure_certificates() {
    need openssl openssl
    (
        flock 8
        # Made anew before they run out.
        ! openssl x509 -checkend 864000 -noout -in "$certificates/server.pem" 2>/dev/null || exit 0
        rm -rf "$certificates"
        mkdir -p "$certificates"
        cd "$certificates"
        make_authority ca "dbmanager test authority"
        make_authority other-ca "another test authority"
        openssl req -newkey rsa:2048 -noenc -keyout server.key -subj "/CN=localhost" -out server.csr
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 \
            -sha256 -extfile <(printf '%s\n' basicConstraints=critical,CA:FALSE \
                keyUsage=critical,digitalSignature,keyEncipherment extendedKeyUsage=serverAuth \
                subjectAltName=DNS:localhost,IP:127.0.0.1) -out server.pem
        chmod 600 ./*.key
    ) 8>"$servers_dir/certificates.lock"
}

make_authority() {
    openssl req -x509 -newkey rsa:2048 -noenc -keyout "$1.key" -out "$1.pem" -days 365 -sha256 \
        -subj "/CN=$2" -addext basicConstraints=critical,CA:TRUE \
        -addext keyUsage=critical,keyCertSign,cRLSign
}
