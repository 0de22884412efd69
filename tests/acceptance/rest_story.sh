#!/usr/bin/env bash
# The whole story by curl alone: pictures in, a job, its results out, and failures that say why.
#
#   tests/acceptance/rest_story.sh http://127.0.0.1:8080 PICTURE.jpg
#
# Needs curl, python3 (to read JSON and write a zip) and a mesh with a runner of the framework "faces".
# Prints PASS or FAIL for each step; exits with the number of failures.
set -uo pipefail

url=$1 picture=$2 python=${PYTHON:-python3}
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
failures=0

step() { # step TITLE EXPECTED FOUND
  if [ "$2" = "$3" ]; then
    echo "PASS $1"
  else
    echo "FAIL $1: expected '$2', found '$3'"
    failures=$((failures + 1))
  fi
}

call() { curl --silent --show-error --max-time 120 "$@"; }
json() { "$python" -c 'import json, sys; d = json.load(sys.stdin); print('"$1"')' 2>&1; }
lines() { "$python" -c 'import json, sys; d = [json.loads(l) for l in sys.stdin]; print('"$1"')' 2>&1; }
sha256() { sha256sum "$1" | cut -d' ' -f1; }

step "the gateway and its scheduler serve" '{"status":"SERVING"}' "$(call "$url/readyz")"

# Pictures: one as a form, then a zip of three, one of them damaged, as bytes.
found=$(call -F "file=@$picture" "$url/v1/uploads" | json 'd["sha256"]')
step "a picture is uploaded as a form" "$(sha256 "$picture")" "$found"

head -c 2000 "$picture" > "$folder/damaged.jpg"
"$python" - "$picture" "$folder" << 'PYTHON'
import sys, zipfile
picture, folder = sys.argv[1:]
with zipfile.ZipFile(f"{folder}/pictures.zip", "w") as archive:
    archive.write(picture, "a.jpg")
    archive.write(f"{folder}/damaged.jpg", "b.jpg")
    archive.write(picture, "c.jpg")
PYTHON
upload=$(call --data-binary "@$folder/pictures.zip" "$url/v1/uploads?filename=pictures.zip" | json 'd["name"]')
step "a zip is uploaded as bytes" "uploads/" "${upload%%/*}/"

# A dataset.
(cd "$folder" && "$python" -m visionmesh.shapes shapes > /dev/null && cd shapes && "$python" -m zipfile -c ../shapes.zip ./*)
labelled=$(call -F "file=@$folder/shapes.zip" "$url/v1/uploads" | json 'd["name"]')
task=$(call -d "{\"upload\": \"$labelled\", \"datasetId\": \"shapes\"}" "$url/v1/datasets" | json 'd["task"]')
step "a dataset is made of a zip" "TASK_DETECT" "$task"

# An inference job, watched as lines to its end, then asked for.
job=$(call -d "{\"detectFaces\": {\"images\": {\"upload\": \"$upload\"}}}" "$url/v1/jobs" | json 'd["name"]')
step "an inference job is created" "jobs/" "${job%%/*}/"
call "$url/v1/$job:watch" > "$folder/lines"
state=$(lines '[u["stateChanged"]["toState"] for m in d for u in [m.get("event", {}).get("update", {})] if "stateChanged" in u][-1]' < "$folder/lines")
step "its events come as lines, to the last" "JOB_STATE_SUCCEEDED" "$state"
for _ in $(seq 60); do
  state=$(call "$url/v1/$job" | json 'd["state"]')
  case $state in JOB_STATE_SUCCEEDED | JOB_STATE_FAILED) break ;; esac
  sleep 1
done
step "polling says the same" "JOB_STATE_SUCCEEDED" "$state"

# Results.
totals=$(call "$url/v1/$job/result" | json 'd["inference"]["totalImages"], d["inference"]["failedImages"]')
step "the result has its totals" "3 1" "$totals"
token="" indices=""
for _ in 1 2 3 4 5; do
  call --get --data-urlencode "pageToken=$token" "$url/v1/$job/predictions?pageSize=1" > "$folder/page"
  indices+=$(json '"".join(p["index"] for p in d["predictions"])' < "$folder/page")
  token=$(json 'd["nextPageToken"]' < "$folder/page")
  [ -z "$token" ] && break
done
step "predictions come page by page, each once" "012" "$indices"
reason=$(call "$url/v1/$job/predictions" | json '[p["error"]["details"][0]["reason"] for p in d["predictions"] if "error" in p]')
step "the damaged picture says why" "['IMAGE_UNREADABLE']" "$reason"
faces=$(call "$url/v1/$job/predictions" | json 'len(d["predictions"][0]["faces"]) > 0')
step "faces were found in the others" "True" "$faces"

# Files, whole and in part.
call "$url/v1/$job/artifacts" > "$folder/artifacts"
artifact=$(json 'd["artifacts"][0]["name"]' < "$folder/artifacts")
call -o "$folder/whole" "$url/v1/$artifact:download"
step "a file is downloaded" "$(json 'd["artifacts"][0]["sha256"]' < "$folder/artifacts")" "$(sha256 "$folder/whole")"
head -c 100 "$folder/whole" > "$folder/part"
call -C - -o "$folder/part" "$url/v1/$artifact:download"
step "a download that broke off goes on" "$(sha256 "$folder/whole")" "$(sha256 "$folder/part")"

# Server-sent events, resumed where they were cut.
events() { call -H 'Accept: text/event-stream' "$@" "$url/v1/$job:watch"; }
events > "$folder/events"
step "events end with an end" "event: end" "$(grep '^event:' "$folder/events" | tail -1)"
last=$(grep '^id:' "$folder/events" | sed -n 3p | cut -d' ' -f2)
awk -v last="$last" '{ print } $0 == "id: " last { seen = 1 } seen && $0 == "" { exit }' "$folder/events" > "$folder/first"
events -H "Last-Event-ID: $last" > "$folder/rest"
step "Last-Event-ID goes on without gap or repetition" "$(sha256 "$folder/events")" \
  "$(cat "$folder/first" "$folder/rest" > "$folder/both" && sha256 "$folder/both")"

# Lists, and failures.
waiting=$(call -d '{"framework": "nobody", "train": {"model": "m", "dataset": "datasets/shapes"}}' "$url/v1/jobs" | json 'd["name"]')
call "$url/v1/jobs?pageSize=1" > "$folder/page"
token=$(json 'd["nextPageToken"]' < "$folder/page")
second=$(call --get --data-urlencode "pageToken=$token" "$url/v1/jobs?pageSize=1" | json 'd["jobs"][0]["name"]')
step "jobs come page by page, newest first" "$waiting $job" "$(json 'd["jobs"][0]["name"]' < "$folder/page") $second"
why=$(call "$url/v1/$waiting:explain" | json 'd["summary"] != ""')
step "a job that waits says why" "True" "$why"
state=$(call -X POST "$url/v1/$waiting:cancel" | json 'd["state"]')
step "it is cancelled" "JOB_STATE_CANCELLED" "$state"
code=$(call -o "$folder/error" -w '%{http_code}' -X POST "$url/v1/$waiting:cancel")
step "a second time is refused, with the reason" "400 JOB_ALREADY_ENDED" "$code $(json 'd["details"][0]["reason"]' < "$folder/error")"
code=$(call -o "$folder/error" -w '%{http_code}' -d '{"train": {"model": "yolo11n", "dataset": "datasets/none"}}' "$url/v1/jobs")
field=$(json '[f["field"] for e in d["details"] for f in e.get("fieldViolations", [])]' < "$folder/error")
step "a dataset that is not there is named" "400 ['job.train.dataset']" "$code $field"
code=$(call -o "$folder/error" -w '%{http_code}' -d '{"train": {"epoch": 3}}' "$url/v1/jobs")
field=$(json '[f["field"] for e in d["details"] for f in e.get("fieldViolations", [])]' < "$folder/error")
step "a field that is not there is named" "400 ['job.train.epoch']" "$code $field"
code=$(call -o "$folder/error" -w '%{http_code}' "$url/v1/jobs/none")
step "a job that is not there is not found" "404 NOT_FOUND" "$code $(json 'd["details"][0]["reason"]' < "$folder/error")"
step "the document of all calls is served" "3.1.0" "$(call "$url/openapi.json" | json 'd["openapi"]')"

exit "$failures"
