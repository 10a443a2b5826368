# shellcheck shell=bash
# Neo4j Community from its Maven artefacts. Bolt takes plain text and TLS on one port.

# shellcheck source=scripts/servers.d/certificates.bash
source "$parts/certificates.bash"

version="Neo4j 5.26.30 Community"
ports=("$(port_of neo4j 17687)" "$(port_of neo4j 17474 _HTTP)")
ready_limit=240
libraries=$home/software/lib
# Of `sha256sum *.jar` in the directory of the jars, in the C locale's order.
libraries_sha256=b39dcc8742460b796812b2494bde19cb6474ab73862fe3ac9af878e5012afeb8
java_options=(--add-opens=java.base/java.nio=ALL-UNNAMED --add-opens=java.base/java.io=ALL-UNNAMED
    --add-opens=java.base/sun.nio.ch=ALL-UNNAMED --enable-native-access=ALL-UNNAMED
    -Dio.netty.tryReflectionSetAccessible=true -Dlog4j2.disable.jmx=true)

setup() {
    need java openjdk-17-jre-headless
    need mvn maven
    mvn -q -B -C -f "$parts/neo4j.pom.xml" \
        org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DoutputDirectory="$libraries" -DincludeScope=runtime ||
        fail "Maven could not fetch it: $(grep -m 1 -o 'ERROR.*' "$home/up.log")"
    local found
    found=$(cd "$libraries" && LC_ALL=C sha256sum -- *.jar | sha256sum | cut -d ' ' -f 1)
    [ "$found" = "$libraries_sha256" ] || fail "the jars are not those that were tested: $found"
}

start() {
    need java openjdk-17-jre-headless
    ensure_certificates
    mkdir -p "$home"/{conf,import,plugins,logs}
    configuration >"$home/conf/neo4j.conf"
    if [ ! -e "$data" ]; then
        mkdir "$data"
        NEO4J_HOME=$home NEO4J_CONF=$home/conf java "${java_options[@]}" -Xmx128m -cp "$libraries/*" \
            org.neo4j.server.startup.Neo4jAdminCommand dbms set-initial-password "$password"
    fi
    start_process neo4j java "${java_options[@]}" -Xms512m -Xmx512m -cp "$libraries/*" \
        org.neo4j.server.CommunityEntryPoint --home-dir="$home" --config-dir="$home/conf"
}

configuration() {
    cat <<CONF
server.default_listen_address=127.0.0.1
server.bolt.listen_address=127.0.0.1:${ports[0]}
server.bolt.advertised_address=127.0.0.1:${ports[0]}
server.http.listen_address=127.0.0.1:${ports[1]}
server.http.advertised_address=127.0.0.1:${ports[1]}
server.https.enabled=false
server.bolt.tls_level=OPTIONAL
dbms.ssl.policy.bolt.enabled=true
dbms.ssl.policy.bolt.base_directory=$certificates
dbms.ssl.policy.bolt.private_key=server.key
dbms.ssl.policy.bolt.public_certificate=server.pem
dbms.ssl.policy.bolt.client_auth=NONE
dbms.security.auth_enabled=true
# Wrong passwords are among the tests; three in a row must not lock the others out.
dbms.security.auth_max_failed_attempts=0
server.directories.data=$data
server.memory.heap.initial_size=512m
server.memory.heap.max_size=512m
server.memory.pagecache.size=64m
dbms.usage_report.enabled=false
db.tx_log.rotation.retention_policy=1 files
db.tx_log.rotation.size=1M
db.tx_log.preallocate=false
CONF
}

ready() {
    http_user=neo4j:$password http "${ports[1]}" POST /db/neo4j/tx/commit \
        '{"statements":[{"statement":"RETURN 41 + 1"}]}' | grep -q '"row":\[42\]'
}

environment() {
    echo "DBMANAGER_TEST_NEO4J_URL=bolt://neo4j:$password@127.0.0.1:${ports[0]}"
    # The container has plain text only.
    [ -n "$(compose_mark)" ] ||
        echo "DBMANAGER_TEST_NEO4J_TLS_URL=bolt+s://neo4j:$password@localhost:${ports[0]}"
}
