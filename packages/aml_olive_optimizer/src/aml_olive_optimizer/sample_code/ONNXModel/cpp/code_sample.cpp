// Run a packaged candidate with the session options that it was measured with.
//
//   c++ -std=c++17 code_sample.cpp -I<onnxruntime>/include -L<onnxruntime>/lib -lonnxruntime -o code_sample
//   ./code_sample <package>/CandidateModels/<accelerator>/BestCandidateModel_<k>/model.onnx
//
// The figures below are defaults: copy those of the candidate's inference_config.json.

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

Ort::SessionOptions make_options() {
  Ort::SessionOptions options;
  options.SetExecutionMode(ExecutionMode::ORT_SEQUENTIAL);                      // execution_mode
  options.SetGraphOptimizationLevel(GraphOptimizationLevel::ORT_ENABLE_ALL);    // graph_optimization_level
  options.SetInterOpNumThreads(1);                                              // inter_op_num_threads
  options.SetIntraOpNumThreads(1);                                              // intra_op_num_threads
  // execution_provider OpenVINOExecutionProvider, with its options:
  //   options.AppendExecutionProvider("OpenVINO", {{"device_type", "CPU"}});
  return options;
}

std::size_t element_bytes(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
      return 1;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
      return 2;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
      return 4;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE:
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
      return 8;
    default:
      throw std::runtime_error("an input has a type that this sample does not make up");
  }
}

std::size_t count(const std::vector<std::int64_t>& shape) {
  std::size_t elements = 1;
  for (std::int64_t size : shape) elements *= static_cast<std::size_t>(size);
  return elements;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s model.onnx\n", argv[0]);
    return 2;
  }
  try {
    Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "code_sample");
    Ort::SessionOptions options = make_options();
    Ort::Session session(env, argv[1], options);
    Ort::AllocatorWithDefaultOptions allocator;
    Ort::RunOptions run_options;

    // Zeros of the model's own shapes; an open dimension is taken as 1.
    std::vector<std::string> input_names;
    std::vector<Ort::Value> inputs;
    for (std::size_t i = 0; i < session.GetInputCount(); ++i) {
      input_names.emplace_back(session.GetInputNameAllocated(i, allocator).get());
      Ort::TypeInfo type = session.GetInputTypeInfo(i);
      auto tensor = type.GetTensorTypeAndShapeInfo();
      std::vector<std::int64_t> shape = tensor.GetShape();
      for (auto& size : shape) {
        if (size < 1) size = 1;
      }
      Ort::Value value = Ort::Value::CreateTensor(allocator, shape.data(), shape.size(), tensor.GetElementType());
      std::memset(value.GetTensorMutableRawData(), 0, count(shape) * element_bytes(tensor.GetElementType()));
      inputs.push_back(std::move(value));
    }
    std::vector<std::string> output_names;
    for (std::size_t i = 0; i < session.GetOutputCount(); ++i) {
      output_names.emplace_back(session.GetOutputNameAllocated(i, allocator).get());
    }

    std::vector<const char*> in, out;
    for (const auto& name : input_names) in.push_back(name.c_str());
    for (const auto& name : output_names) out.push_back(name.c_str());
    std::vector<Ort::Value> outputs =
        session.Run(run_options, in.data(), inputs.data(), inputs.size(), out.data(), out.size());

    for (std::size_t i = 0; i < outputs.size(); ++i) {
      std::printf("%s: shape [", out[i]);
      for (std::int64_t size : outputs[i].GetTensorTypeAndShapeInfo().GetShape()) {
        std::printf(" %lld", static_cast<long long>(size));
      }
      std::printf(" ]\n");
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
