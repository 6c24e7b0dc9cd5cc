// Prints, as one line of JSON for each line of input, what the rules of this library decide; a test compares
// them with the Python package's. Needs neither TensorRT nor a GPU.
//
//   quantize KERNEL SCALING DTYPE M K MULTIPROCESSORS SHARED_BYTES
//   gemm SM DTYPE M N K          the tile, its launch, its partial sums and its workspace
//   workspace DTYPE MAX_M MAX_N MAX_K  the most workspace
//   pack                         the cubins embedded in this program
//   arguments                    where each member of the kernels' parameter lies, and how large their memory is
//   quantize_node SCALING FUNCTION RESIDUAL WEIGHT BIAS VALUES SUM SHAPE...
//   gemm_node DTYPE BIAS SHAPE...   what a node with these inputs comes to; a SHAPE is 2x3x64
#include <cstddef>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <utility>

#include "arguments.hpp"
#include "launch.hpp"
#include "shapes.hpp"
#include "tiles.hpp"

namespace {

using namespace nvfp4;

void print(const Launch& launch) {
  std::printf("{\"entry\": \"%s\", \"grid\": [%lld, %lld], \"block\": %d, \"shared_bytes\": %d, \"cooperative\": %s, "
              "\"group\": %d, \"stash\": %d}",
              launch.entry.c_str(), static_cast<long long>(launch.grid_x), static_cast<long long>(launch.grid_y),
              launch.block, launch.shared_bytes, launch.cooperative ? "true" : "false", launch.group, launch.stash);
}

void quantize(std::istream& in) {
  std::string kernel, scaling, dtype;
  long long m = 0, k = 0;
  DeviceLimits device{};
  in >> kernel >> scaling >> dtype >> m >> k >> device.multiprocessors >> device.shared_bytes;
  if (!in) throw Error("quantize takes seven words");
  print(quantize_launch(kernel, scaling_named(scaling), dtype_named(dtype), m, k, device));
}

void gemm(std::istream& in) {
  int sm = 0;
  std::string dtype;
  long long m = 0, n = 0, k = 0;
  in >> sm >> dtype >> m >> n >> k;
  if (!in) throw Error("gemm takes five words");
  const TileChoice choice = choose_tile(embedded_pack(), sm, m, n, k);
  const Cubin& cubin = find_cubin(embedded_pack(), "gemm", dtype_named(dtype), sm, choice.tile);
  const Workspace workspace = gemm_workspace(*cubin.tile, choice.split_k, m, n);
  std::printf("{\"tile\": \"%s\", \"split_k\": %d, \"partials\": %zu, \"scratch\": %zu, \"bytes\": %zu, \"launch\": ",
              choice.tile.c_str(), choice.split_k, partials_bytes(choice.split_k, m, n), workspace.scratch,
              workspace.bytes);
  print(gemm_launch(*cubin.tile, m, n, choice.split_k));
  std::printf("}");
}

void workspace(std::istream& in) {
  std::string dtype;
  long long m = 0, n = 0, k = 0;
  in >> dtype >> m >> n >> k;
  if (!in) throw Error("workspace takes a dtype and three numbers");
  std::printf("{\"bytes\": %zu}", largest_workspace(embedded_pack(), dtype_named(dtype), m, n, k));
}

void pack() {
  std::printf("[");
  const Pack& pack = embedded_pack();
  for (int i = 0; i < pack.cubin_count; ++i) {
    const Cubin& cubin = pack.cubins[i];
    unsigned long long hash = 14695981039346656037ull;  // FNV-1a
    for (const unsigned char* byte = cubin.data; byte != cubin.end; ++byte) hash = (hash ^ *byte) * 1099511628211ull;
    std::printf("%s{\"file\": \"%s\", \"kernel\": \"%s\", \"dtype\": \"%s\", \"sm\": %d, \"bytes\": %zu, \"fnv\": %llu, "
                "\"aligned\": %s, \"tile\": \"%s\", \"entries\": [",
                i == 0 ? "" : ", ", cubin.file, cubin.kernel, name_of(cubin.dtype), cubin.sm,
                static_cast<std::size_t>(cubin.end - cubin.data), hash,
                reinterpret_cast<std::uintptr_t>(cubin.data) % 64 == 0 ? "true" : "false",
                cubin.tile == nullptr
                    ? ""
                    : tile_name(cubin.tile->block_m, cubin.tile->block_n, cubin.tile->block_k).c_str());
    for (int e = 0; e < cubin.entry_count; ++e) std::printf("%s\"%s\"", e == 0 ? "" : ", ", cubin.entries[e].name);
    std::printf("]}");
  }
  std::printf("]");
}

#define NVFP4_OFFSET(MEMBER) {#MEMBER, offsetof(QuantizeArguments, MEMBER)}

void arguments() {
  const std::pair<const char*, std::size_t> offsets[] = {
      NVFP4_OFFSET(x),        NVFP4_OFFSET(other),        NVFP4_OFFSET(weight),  NVFP4_OFFSET(bias),
      NVFP4_OFFSET(scale_in), NVFP4_OFFSET(values),       NVFP4_OFFSET(sum),     NVFP4_OFFSET(codes),
      NVFP4_OFFSET(scales),   NVFP4_OFFSET(scale_out),    NVFP4_OFFSET(fake),    NVFP4_OFFSET(state),
      NVFP4_OFFSET(m),        NVFP4_OFFSET(k),            NVFP4_OFFSET(x_stride), NVFP4_OFFSET(other_stride),
      NVFP4_OFFSET(epsilon),  NVFP4_OFFSET(floor),        NVFP4_OFFSET(layout),  NVFP4_OFFSET(function),
      NVFP4_OFFSET(group),    NVFP4_OFFSET(stash)};
  std::printf("{\"size\": %zu, \"state_bytes\": %d, \"counters_offset\": %d", sizeof(QuantizeArguments), STATE_BYTES,
              COUNTERS_OFFSET);
  for (const auto& [name, offset] : offsets) std::printf(", \"%s\": %zu", name, offset);
  std::printf("}");
}

Shape shape_named(const std::string& text) {
  Shape shape;
  std::istringstream in(text);
  for (std::string extent; std::getline(in, extent, 'x');) shape.push_back(std::stoll(extent));
  return shape;
}

std::vector<Shape> shapes_from(std::istream& in) {
  std::vector<Shape> shapes;
  for (std::string word; in >> word;) shapes.push_back(shape_named(word));
  return shapes;
}

void print(const std::vector<std::string>& names) {
  std::printf("[");
  for (std::size_t i = 0; i < names.size(); ++i) std::printf("%s\"%s\"", i == 0 ? "" : ", ", names[i].c_str());
  std::printf("]");
}

void quantize_node(std::istream& in) {
  std::string scaling, function;
  QuantizeAttributes node;
  in >> scaling >> function >> node.has_residual >> node.has_weight >> node.has_bias >> node.emit_values >>
      node.emit_sum;
  if (!in) throw Error("quantize_node takes seven words before the shapes");
  node.scaling = scaling_named(scaling);
  node.function = function_named(function);
  node.check();
  const QuantizeProblem problem = check_quantize(node, shapes_from(in));
  std::printf("{\"kernel\": \"%s\", \"function\": %d, \"m\": %lld, \"k\": %lld, \"inputs\": ", node.kernel(),
              node.kernel_function(), static_cast<long long>(problem.m), static_cast<long long>(problem.k));
  print(node.inputs());
  std::printf(", \"outputs\": ");
  print(node.outputs());
  std::printf("}");
}

void gemm_node(std::istream& in) {
  GemmAttributes node;
  in >> node.dtype >> node.has_bias;
  if (!in) throw Error("gemm_node takes two words before the shapes");
  node.check();
  const GemmProblem problem = check_gemm(node, shapes_from(in));
  std::printf("{\"dtype\": \"%s\", \"m\": %lld, \"n\": %lld, \"k\": %lld, \"inputs\": ", name_of(node.output_dtype()),
              static_cast<long long>(problem.m), static_cast<long long>(problem.n), static_cast<long long>(problem.k));
  print(node.inputs());
  std::printf("}");
}

void answer(const std::string& line) {
  std::istringstream in(line);
  std::string command;
  in >> command;
  if (command == "quantize") return quantize(in);
  if (command == "gemm") return gemm(in);
  if (command == "workspace") return workspace(in);
  if (command == "pack") return pack();
  if (command == "arguments") return arguments();
  if (command == "quantize_node") return quantize_node(in);
  if (command == "gemm_node") return gemm_node(in);
  throw Error("no command is named '" + command + "'");
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    try {
      answer(line);
    } catch (const Error& error) {
      std::printf("{\"error\": \"%s\"}", error.what());
    }
    std::printf("\n");
  }
  return 0;
}
