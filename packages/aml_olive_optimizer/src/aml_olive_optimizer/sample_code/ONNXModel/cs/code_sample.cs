// Run a packaged candidate with the session options that it was measured with.
//
//   dotnet add package Microsoft.ML.OnnxRuntime && dotnet run -- <package>/CandidateModels/<accelerator>/BestCandidateModel_<k>
//
// The options are read from the candidate's inference_config.json.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

public static class CodeSample
{
    public static int Main(string[] args)
    {
        if (args.Length != 1)
        {
            Console.Error.WriteLine("usage: code_sample CANDIDATE_FOLDER");
            return 2;
        }
        using SessionOptions options = OptionsOf(Path.Combine(args[0], "inference_config.json"));
        using var session = new InferenceSession(Path.Combine(args[0], "model.onnx"), options);
        List<NamedOnnxValue> inputs = session.InputMetadata.Select(MadeUp).ToList();
        using IDisposableReadOnlyCollection<DisposableNamedOnnxValue> outputs = session.Run(inputs);
        foreach (DisposableNamedOnnxValue output in outputs)
        {
            int[] shape = session.OutputMetadata[output.Name].Dimensions;
            Console.WriteLine($"{output.Name}: shape [{string.Join(", ", shape)}]");
        }
        return 0;
    }

    private static SessionOptions OptionsOf(string path)
    {
        using JsonDocument config = JsonDocument.Parse(File.ReadAllText(path));
        JsonElement asked = config.RootElement.GetProperty("session_options");
        var options = new SessionOptions();
        if (Number(asked, "execution_mode") is int mode) options.ExecutionMode = (ExecutionMode)mode;
        if (Number(asked, "graph_optimization_level") is int level)
            options.GraphOptimizationLevel = (GraphOptimizationLevel)level;
        if (Number(asked, "inter_op_num_threads") is int inter) options.InterOpNumThreads = inter;
        if (Number(asked, "intra_op_num_threads") is int intra) options.IntraOpNumThreads = intra;
        string provider = config.RootElement.GetProperty("execution_provider")[0][0].GetString() ?? "";
        if (provider == "OpenVINOExecutionProvider") options.AppendExecutionProvider_OpenVINO("CPU");
        return options;
    }

    private static int? Number(JsonElement options, string key) =>
        options.TryGetProperty(key, out JsonElement value) && value.ValueKind == JsonValueKind.Number
            ? value.GetInt32()
            : null;

    // Zeros of the model's own shape; an open dimension is taken as 1.
    private static NamedOnnxValue MadeUp(KeyValuePair<string, NodeMetadata> input)
    {
        int[] shape = input.Value.Dimensions.Select(size => size < 1 ? 1 : size).ToArray();
        Type type = input.Value.ElementType;
        if (type == typeof(long)) return NamedOnnxValue.CreateFromTensor(input.Key, new DenseTensor<long>(shape));
        if (type == typeof(int)) return NamedOnnxValue.CreateFromTensor(input.Key, new DenseTensor<int>(shape));
        if (type == typeof(byte)) return NamedOnnxValue.CreateFromTensor(input.Key, new DenseTensor<byte>(shape));
        if (type == typeof(bool)) return NamedOnnxValue.CreateFromTensor(input.Key, new DenseTensor<bool>(shape));
        return NamedOnnxValue.CreateFromTensor(input.Key, new DenseTensor<float>(shape));
    }
}
