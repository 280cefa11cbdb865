#!/usr/bin/env bash
# Make an archive of the classes that Spark loads (class data sharing): scripts/class_archive.sh FILE. With it, a JVM
# starts in two thirds of the processor time. It fits one version of Java and Spark; other JVMs ignore it.
set -euo pipefail
file=$1
SPARK_SUBMIT_OPTS="-XX:ArchiveClassesAtExit=$file.new -Xlog:cds=off -Xlog:cds+dynamic=off" \
    spark-submit --master 'local[2]' --conf spark.ui.enabled=false "$(dirname "$0")/class_archive.py" >"$file.log" 2>&1 ||
    { cat "$file.log" >&2; exit 1; }
mv -f "$file.new" "$file"
rm -f "$file.log"
