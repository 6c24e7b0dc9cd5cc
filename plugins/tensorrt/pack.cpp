#include "pack.hpp"

#include <set>

namespace nvfp4 {

std::string tile_name(int block_m, int block_n, int block_k) {
  return std::to_string(block_m) + "x" + std::to_string(block_n) + "x" + std::to_string(block_k);
}

namespace {

std::string tile_of(const Cubin& cubin) {
  return cubin.tile == nullptr ? "" : tile_name(cubin.tile->block_m, cubin.tile->block_n, cubin.tile->block_k);
}

std::string architectures(const Pack& pack) {
  std::set<int> sms;
  for (int i = 0; i < pack.cubin_count; ++i) sms.insert(pack.cubins[i].sm);
  std::string list;
  for (int sm : sms) list += (list.empty() ? "sm_" : ", sm_") + std::to_string(sm);
  return list.empty() ? "no architecture" : list;
}

}  // namespace

const Cubin& find_cubin(const Pack& pack, const std::string& kernel, Dtype dtype, int sm, const std::string& tile) {
  for (int i = 0; i < pack.cubin_count; ++i) {
    const Cubin& cubin = pack.cubins[i];
    if (cubin.kernel == kernel && cubin.dtype == dtype && cubin.sm == sm && tile_of(cubin) == tile) return cubin;
  }
  const std::string asked = kernel + " " + name_of(dtype) + (tile.empty() ? "" : " " + tile);
  throw Error("this library holds no cubin of " + asked + " for sm_" + std::to_string(sm) + "; it was built for " +
              architectures(pack));
}

const Entry& find_entry(const Cubin& cubin, const std::string& name) {
  for (int i = 0; i < cubin.entry_count; ++i) {
    if (cubin.entries[i].name == name) return cubin.entries[i];
  }
  throw Error(std::string(cubin.file) + " has no entry " + name);
}

}  // namespace nvfp4
