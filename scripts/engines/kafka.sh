#!/usr/bin/env bash
# Installs Apache Kafka for tests: a Java runtime when there is none, and the broker's jars from Maven Central. Changes
# nothing that is there already. Ends with 3 when it cannot be had here.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/versions.sh"

say() { printf 'kafka: %s\n' "$*"; }
fail() {
    printf 'kafka: %s\n' "$@" >&2
    exit 3
}
have() { command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

packages() {
    have apt-get || fail "no apt-get here: install $* with your package manager, then run this again"
    as_root true 2>/dev/null || fail "$* missing, and this is neither root nor passwordless sudo: run 'sudo apt-get install $*'"
    say "installing $* with apt-get"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq || say "apt-get update failed; trying with the lists there are"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install $*: its message is above"
}

have java || packages openjdk-17-jre-headless

kafka=$MILLRACE_ENGINES/kafka
[ -e "$kafka/kafka_2.13-$KAFKA_VERSION.jar" ] && exit 0

have mvn || packages maven
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
cat >"$work/pom.xml" <<XML
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>millrace</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>$KAFKA_VERSION</version>
    </dependency>
  </dependencies>
</project>
XML
say "fetching Apache Kafka $KAFKA_VERSION from Maven Central into $kafka"
mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/jars" ||
    fail "Maven could not fetch it, see above: is Maven Central reachable?"
mkdir -p "$MILLRACE_ENGINES"
rm -rf -- "$kafka"
mv "$work/jars" "$kafka"
say "installed $(find "$kafka" -name '*.jar' | wc -l) jars"
