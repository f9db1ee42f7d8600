#include "sharding/memory/category.h"

#include <utility>

namespace autoglm {
namespace {

thread_local MemoryCategory category_of_thread = MemoryCategory::other;
thread_local MemoryPool pool_of_thread = MemoryPool::device;

}  // namespace

MemoryCategory current_category() {
  return category_of_thread;
}

CategoryScope::CategoryScope(MemoryCategory category) : previous_(category_of_thread) {
  category_of_thread = category;
}

CategoryScope::~CategoryScope() {
  category_of_thread = previous_;
}

MemoryPool current_pool() {
  return pool_of_thread;
}

PoolScope::PoolScope(MemoryPool chosen) : previous_(std::exchange(pool_of_thread, chosen)) {}
PoolScope::~PoolScope() {
  pool_of_thread = previous_;
}

}  // namespace autoglm
