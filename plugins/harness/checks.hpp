// The groups of checks. Those above the line need no GPU.
#pragma once

#include "report.hpp"
#include "tensorrt.hpp"

namespace harness {

void check_creation(Report& report, Library& library);       // names, fields, good and bad attributes
void check_build(Report& report, Library& library);          // types, shapes, formats, workspace
void check_serialization(Report& report, Library& library);  // there and back; damaged
void check_without_gpu(Report& report, Library& library);    // what needs a GPU says so
// ---
void check_codec(Report& report);
void check_quantize(Report& report, Library& library);
void check_functions(Report& report, Library& library);
void check_gemm(Report& report, Library& library);
void check_contexts(Report& report, Library& library);  // graphs, several contexts, changing shapes, repetition
void check_run_refusals(Report& report, Library& library);
void check_missing_cubins(Report& report, Library& without);

// Whether `outcome` is a refusal that was also logged: what is wrong otherwise.
std::string refused(bool outcome, Library& library);

}  // namespace harness
