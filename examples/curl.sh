#!/bin/sh
# The API and the gateway from a shell:
#   HOLDFAST_KEY=hf_… OPENAI_API_KEY=sk-… sh examples/curl.sh
set -eu
url=${HOLDFAST_URL:-http://127.0.0.1:8790}
ask() {
    curl --silent --show-error --fail-with-body \
        --header "x-holdfast-key: $HOLDFAST_KEY" --header "content-type: application/json" "$@"
}

echo "# add what Ada values"
ask "$url/api/v1/subjects/ada/statements" --data '{"text": "I never eat nuts."}'

echo
echo "# find what bears on a request"
ask "$url/api/v1/subjects/ada/retrieve" \
    --data '{"request": "May I eat the nut cake?", "candidates": false}'

echo
echo "# call a model with it"
ask "$url/v1/chat/completions" --include \
    --header "authorization: Bearer $OPENAI_API_KEY" --header "x-holdfast-subject: ada" \
    --data "{\"model\": \"${MODEL:-gpt-5-mini}\",
             \"messages\": [{\"role\": \"user\", \"content\": \"May I eat the nut cake?\"}]}"
echo
