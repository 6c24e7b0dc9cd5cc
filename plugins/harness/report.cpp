#include "report.hpp"

#include <cstdio>

namespace harness {

void Report::holds(const std::string& check, bool outcome, const std::string& detail) {
  ++total_;
  held_ += outcome ? 1 : 0;
  std::printf("%s  %s%s%s\n", outcome ? "holds" : "FAILS", check.c_str(), outcome ? "" : "  -- ",
              outcome ? "" : detail.c_str());
  std::fflush(stdout);  // what was printed survives a crash of the next check
}

}  // namespace harness
