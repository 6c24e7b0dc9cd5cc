#include "gemm_plugin.hpp"

#include <algorithm>

#include "log.hpp"
#include "tiles.hpp"

namespace nvfp4 {

namespace {

using nvinfer1::DataType;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

constexpr const char* WORKSPACE_FIELD = "workspace_bytes";
constexpr std::int64_t UNKNOWN = -1;

// Where a node's inputs stand.
enum Input { A, A_SCALES, ALPHA, B, B_SCALES, BETA, BIAS };

std::string metadata_of(const GemmAttributes& attributes) {
  return std::string("{\"plugin\": \"") + GemmPlugin::NAME + "\", \"dtype\": " + std::to_string(attributes.dtype) +
         ", \"has_bias\": " + std::to_string(attributes.has_bias) + "}";
}

std::int64_t rows_of(const nvinfer1::Dims& dims) {
  std::int64_t rows = 1;
  for (std::int32_t i = 0; i + 1 < dims.nbDims; ++i) rows *= dims.d[i];
  return rows;
}

DataType type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::F16: return DataType::kHALF;
    case Dtype::BF16: return DataType::kBF16;
    case Dtype::F32: break;
  }
  return DataType::kFLOAT;
}

}  // namespace

nvinfer1::PluginFieldCollection GemmPlugin::fields() {
  static const PluginField all[] = {
      PluginField("dtype", nullptr, PluginFieldType::kINT32, 1),
      PluginField("has_bias", nullptr, PluginFieldType::kINT32, 1),
  };
  return nvinfer1::PluginFieldCollection{static_cast<std::int32_t>(std::size(all)), all};
}

GemmPlugin* GemmPlugin::create(FieldReader& reader, nvinfer1::TensorRTPhase phase) {
  const GemmAttributes attributes = read_gemm(reader);
  std::int64_t workspace = UNKNOWN;
  if (phase == nvinfer1::TensorRTPhase::kRUNTIME && reader.number(WORKSPACE_FIELD, workspace) && workspace < UNKNOWN) {
    throw Error("the serialized workspace has " + std::to_string(workspace) + " bytes");
  }
  reader.finish();
  return new GemmPlugin(attributes, workspace);
}

GemmPlugin::GemmPlugin(const GemmAttributes& attributes, std::int64_t workspace)
    : Plugin(NAME, metadata_of(attributes), attributes.inputs(), {"out"}),
      attributes_(attributes),
      workspace_(workspace) {}

std::unique_ptr<Plugin> GemmPlugin::copy() const { return std::make_unique<GemmPlugin>(attributes_, workspace_); }

void GemmPlugin::serialize(FieldWriter& writer) const {
  write(attributes_, writer);
  writer.number(WORKSPACE_FIELD, workspace_);
}

Types GemmPlugin::types(DataType) const {
  const DataType out = type_of(attributes_.output_dtype());
  Types all{DataType::kINT8, DataType::kINT8, DataType::kFLOAT, DataType::kINT8, DataType::kINT8, DataType::kFLOAT};
  if (attributes_.has_bias) all.push_back(out);
  all.push_back(out);
  return all;
}

void GemmPlugin::shapes(const nvinfer1::DimsExprs* inputs, nvinfer1::DimsExprs* outputs,
                        nvinfer1::IExprBuilder&) const {
  if (inputs[B].nbDims != 2) throw Error("b must be a matrix [N, K/2]");
  outputs[0] = inputs[A];
  outputs[0].d[inputs[A].nbDims - 1] = inputs[B].d[0];
}

void GemmPlugin::configure(const std::vector<Shape>& largest) {
  const GemmProblem problem = check_gemm(attributes_, largest);
  const std::size_t bytes =
      largest_workspace(embedded_pack(), attributes_.output_dtype(), problem.m, problem.n, problem.k);
  workspace_ = std::max(workspace_, static_cast<std::int64_t>(bytes));  // over all profiles
}

std::size_t GemmPlugin::getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* inputs, std::int32_t input_count,
                                         const nvinfer1::DynamicPluginTensorDesc*, std::int32_t) const noexcept {
  return guarded(NAME, std::size_t{0}, [&] {
    if (input_count != static_cast<std::int32_t>(input_names().size())) throw Error("wrong number of inputs");
    const nvinfer1::Dims &a = inputs[A].max, &b = inputs[B].max;
    if (a.nbDims < 1 || b.nbDims != 2) throw Error("the inputs' largest shapes are not known");
    const std::size_t bytes =
        largest_workspace(embedded_pack(), attributes_.output_dtype(), rows_of(a), b.d[0], 2 * b.d[1]);
    return std::max(bytes, static_cast<std::size_t>(std::max<std::int64_t>(workspace_, 0)));
  });
}

// Which tiles will be needed depends on shapes, and nothing may be loaded while a graph is captured: so all are.
void GemmPlugin::load(Device& device) const {
  const Pack& pack = embedded_pack();
  bool any = false;
  for (int i = 0; i < pack.row_count; ++i) {
    const TileRow& row = pack.rows[i];
    if (row.sm != device.sm()) continue;
    const std::string tile = tile_name(row.block_m, row.block_n, row.block_k);
    device.module(find_cubin(pack, "gemm", attributes_.output_dtype(), device.sm(), tile));
    if (row.split_k > 1) device.state();
    any = true;
  }
  if (!any) find_cubin(pack, "gemm", attributes_.output_dtype(), device.sm());  // throws, saying what there is
}

void GemmPlugin::plan(Device& device, const std::vector<Shape>& inputs, DataType) {
  const GemmProblem problem = check_gemm(attributes_, inputs);
  m_ = static_cast<std::int32_t>(problem.m);
  n_ = static_cast<std::int32_t>(problem.n);
  k_ = static_cast<std::int32_t>(problem.k);
  alpha_stride_ = problem.alpha_per_row ? 1 : 0;
  beta_stride_ = problem.beta_per_column ? 1 : 0;
  if (m_ == 0) return;
  const TileChoice choice = choose_tile(embedded_pack(), device.sm(), problem.m, problem.n, problem.k);
  const Cubin& cubin = find_cubin(embedded_pack(), "gemm", attributes_.output_dtype(), device.sm(), choice.tile);
  split_k_ = choice.split_k;
  needed_ = gemm_workspace(*cubin.tile, split_k_, problem.m, problem.n);
  while (workspace_ != UNKNOWN && needed_.bytes > static_cast<std::size_t>(workspace_)) {
    if (split_k_ == 1) {
      throw Error("the engine was built with " + std::to_string(workspace_) + " bytes of workspace, and " + cubin.file +
                  " needs " + std::to_string(needed_.bytes) + ": build the engine again with this library");
    }
    needed_ = gemm_workspace(*cubin.tile, --split_k_, problem.m, problem.n);
  }
  launch_ = gemm_launch(*cubin.tile, problem.m, problem.n, split_k_);
  function_ = device.module(cubin).only_function();
}

void GemmPlugin::run(Device& device, const void* const* inputs, void* const* outputs, void* workspace,
                     CUstream stream) {
  if (m_ == 0) return;
  if (needed_.bytes > 0 && workspace == nullptr) throw Error("there is no workspace");
  const bool has_scratch = needed_.bytes > needed_.scratch;
  if (has_scratch && reinterpret_cast<std::uintptr_t>(workspace) % SCRATCH_ALIGNMENT != 0) {
    throw Error("the workspace is not aligned to " + std::to_string(SCRATCH_ALIGNMENT) + " bytes");
  }
  const void* a = inputs[A];
  const void* a_scales = inputs[A_SCALES];
  const void* alpha = inputs[ALPHA];
  const void* b = inputs[B];
  const void* b_scales = inputs[B_SCALES];
  const void* beta = inputs[BETA];
  // What is not read has an aligned address all the same, as the kernel was compiled for.
  const void* bias = attributes_.has_bias ? inputs[BIAS] : outputs[0];
  void* out = outputs[0];
  void* partials = split_k_ > 1 ? workspace : outputs[0];
  CUdeviceptr counters = split_k_ > 1 ? device.state().counters() : reinterpret_cast<CUdeviceptr>(outputs[0]);
  std::int32_t has_bias = attributes_.has_bias;
  // Two of the compiler's own: the programs' TMA descriptors, and one that no kernel uses.
  void* scratch = has_scratch ? static_cast<unsigned char*>(workspace) + needed_.scratch : nullptr;
  void* unused = nullptr;
  void* parameters[] = {&a,    &b,        &a_scales, &b_scales, &alpha, &beta,
                        &bias, &out,      &partials, &counters, &m_,    &n_,
                        &k_,   &alpha_stride_, &beta_stride_, &has_bias, &split_k_,
                        &scratch, &unused};
  launch(function_, launch_, parameters, stream);
}

}  // namespace nvfp4
