// The GEMM that gemm_sass.py compares ours with: CUTLASS's own NVFP4 kernel, at the tile of the macros
// TILE_M, TILE_N and TILE_K, for SM120 or (with ON_SM100) SM100, bf16 out, one CTA to a cluster.
// It is only compiled, to be disassembled; nothing here runs.

#include "cute/tensor.hpp"
#include "cutlass/cutlass.h"
#include "cutlass/device_kernel.h"
#include "cutlass/epilogue/collective/collective_builder.hpp"
#include "cutlass/gemm/collective/collective_builder.hpp"
#include "cutlass/gemm/kernel/gemm_universal.hpp"
#include "cutlass/numeric_types.h"

#ifdef ON_SM100
using Arch = cutlass::arch::Sm100;
#else
using Arch = cutlass::arch::Sm120;
#endif

using Operators = cutlass::arch::OpClassBlockScaledTensorOp;
using Operand = cutlass::nv_float4_t<cutlass::float_e2m1_t>;  // e2m1 with an e4m3 scale for each 16
using Out = cutlass::bfloat16_t;
using RowMajor = cutlass::layout::RowMajor;
using ColumnMajor = cutlass::layout::ColumnMajor;
using Tile = cute::Shape<cute::Int<TILE_M>, cute::Int<TILE_N>, cute::Int<TILE_K>>;
using Cluster = cute::Shape<cute::_1, cute::_1, cute::_1>;

constexpr int kOperandAlignment = 32;  // elements: 16 bytes
constexpr int kOutAlignment = 8;

using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
    Arch, Operators, Tile, Cluster, cutlass::epilogue::collective::EpilogueTileAuto, float, float, Out, RowMajor,
    kOutAlignment, Out, RowMajor, kOutAlignment, cutlass::epilogue::collective::EpilogueScheduleAuto>::CollectiveOp;

using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    Arch, Operators, Operand, RowMajor, kOperandAlignment, Operand, ColumnMajor, kOperandAlignment, float, Tile,
    Cluster,
    cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
    cutlass::gemm::collective::KernelScheduleAuto>::CollectiveOp;

using Kernel = cutlass::gemm::kernel::GemmUniversal<cute::Shape<int, int, int, int>, Mainloop, Epilogue, void>;

// Shown by `cuobjdump -elf`: what a launch would ask for beside the registers in the cubin.
extern "C" __constant__ const int kDynamicSharedBytes = Kernel::SharedStorageSize;
extern "C" __constant__ const int kThreads = Kernel::MaxThreadsPerBlock;

template __global__ void cutlass::device_kernel<Kernel>(CUTLASS_GRID_CONSTANT typename Kernel::Params const);
