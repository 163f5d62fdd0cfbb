# Creates certificates for the host name `localhost` in the working directory, each NAME with NAME.key (PKCS #8) and NAME.pem:
# ca, other-ca, server, expired, client, and locked, which is `client` with a key that has a password ($1).
set -eu
umask 077
cat >ca.cnf <<'END'
[ca]
default_ca = tests
[tests]
database = index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = names
unique_subject = no
copy_extensions = copy
[names]
commonName = supplied
END
: >index.txt
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }
authority() {
  key "$1"
  openssl req -new -x509 -key "$1.key" -subj "/CN=$1" -days 3650 -out "$1.pem"
}
# certificate NAME COMMON_NAME START END
certificate() {
  key "$1"
  openssl req -new -key "$1.key" -subj "/CN=$2" -addext subjectAltName=DNS:localhost -out request.pem
  openssl ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -startdate "$3" -enddate "$4" -in request.pem -out "$1.pem"
}
authority ca
authority other-ca
certificate server localhost 20200101000000Z 21200101000000Z
certificate expired localhost 20200101000000Z 20210101000000Z
certificate client by_certificate 20200101000000Z 21200101000000Z
openssl pkcs8 -topk8 -in client.key -out locked.key -passout "pass:$1"
cp client.pem locked.pem
for name in server expired; do
  cat "$name.key" "$name.pem" >"$name-with-key.pem"
done
