#!/bin/sh
# An authority of one's own, and the certificates of tls.yaml, for a first try on this machine. Not for anything else.
set -eu
cd "$(dirname "$0")"
mkdir -p tls
cd tls
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj "/CN=Example Authority" -keyout authority.key -out authority.crt 2>/dev/null

certificate() { # name, common name, subject alternative names
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" \
        -keyout "$1.key" -out "$1.csr" 2>/dev/null
    printf 'subjectAltName=%s\n' "$3" > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA authority.crt -CAkey authority.key -CAcreateserial -days 30 \
        -extfile "$1.ext" -out "$1.crt" 2>/dev/null
    rm "$1.csr" "$1.ext"
}
certificate www www.example.com "DNS:www.example.com,DNS:example.com"
certificate api api.example.com "DNS:api.example.com,DNS:*.api.example.com"
certificate vault vault.internal.example "DNS:vault.internal.example"
certificate billing billing "DNS:billing.example"
echo "made: $(pwd)"
