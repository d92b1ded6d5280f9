#!/bin/sh
# SPDX-License-Identifier: MIT
# publish.sh REPORT.md DOCUMENT.md
#
# Puts a report of `kvasir bench` between the document's two marks, <!-- matrix: begin --> and <!-- matrix: end -->,
# its headings a level lower.  A document without both marks, in this order, stays as it is.
set -u
[ $# = 2 ] || { sed -n 's/^# \{0,1\}//p' "$0" | sed -n 2,5p; exit 2; }
report=$1 document=$2 new=$2.new.$$
[ -s "$report" ] || { echo "publish: no report $report" >&2; exit 1; }
trap 'rm -f "$new"' EXIT
awk -v report="$report" '
    /^<!-- matrix: begin -->$/ && !n {
        n = 1; print
        while ((getline line < report) > 0) print (line ~ /^#/ ? "#" : "") line
        next
    }
    /^<!-- matrix: end -->$/ && n == 1 { n = 2 }
    n != 1
    END { exit n != 2 }' "$document" >"$new" || { echo "publish: $document lacks the two marks" >&2; exit 1; }
cat "$new" >"$document"
echo "publish: $report is in $document"
