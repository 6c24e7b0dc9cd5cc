// Counts checks and prints a line for each.
#pragma once

#include <stdexcept>
#include <string>

namespace harness {

// What stops a check that cannot go on: a step that should have worked did not.
class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Report {
 public:
  // Prints the check and its outcome; `detail` is added where it does not hold.
  void holds(const std::string& check, bool outcome, const std::string& detail = "");

  // Runs `body`, which returns what is wrong, or nothing. A Failure is wrong too.
  template <class Body>
  void runs(const std::string& check, Body&& body) {
    std::string wrong;
    try {
      wrong = body();
    } catch (const std::exception& error) {
      wrong = std::string("stopped: ") + error.what();
    }
    holds(check, wrong.empty(), wrong);
  }

  int total() const { return total_; }
  int held() const { return held_; }

 private:
  int total_ = 0, held_ = 0;
};

}  // namespace harness
