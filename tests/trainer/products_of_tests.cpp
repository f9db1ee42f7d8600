// Linked into test programs: the route of matrix products that AUTOGLM_TEST_PRODUCTS names ("best": what this processor
// is fastest with), where it can be taken. Without it, and where it cannot, they go by LibTorch's BLAS.
// AUTOGLM_ALL_TESTS_PRODUCTS, for running every test by one route, stands above it.
#include <cstdlib>
#include <string_view>

#include "trainer/ops/products.h"

namespace autoglm {
namespace {

[[maybe_unused]] const bool kRouteIsSet = [] {
  const char* named = std::getenv("AUTOGLM_ALL_TESTS_PRODUCTS");
  if (named == nullptr) named = std::getenv("AUTOGLM_TEST_PRODUCTS");
  if (named == nullptr) return false;
  Products route = ops::best_products();
  for (const Word<Products>& word : kProducts) {
    if (word.text == std::string_view(named)) route = word.value;
  }
  if (!ops::products_problem(route).empty()) return false;
  ops::set_products(route);
  return true;
}();

}  // namespace
}  // namespace autoglm
