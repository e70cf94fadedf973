module attributes {keras.stage = "keras"} {
  func.func @main(%arg0: tensor<2x3x4x5xf32> {keras.name = "x"}, %arg1: tensor<2x3x4x5xf32> {keras.name = "d"}) -> (tensor<2x5xf32>, tensor<5xf32>, tensor<5xf32>, tensor<5xf32>) {
    %0 = "keras.full"() {dtype = "f32", shape = array<i64>, value = 0.000000e+00 : f64} : () -> tensor<f32>
    %1 = "keras.relu"(%arg0) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
    %2 = "keras.sum"(%1) {axes = array<i64: 1, 2>} : (tensor<2x3x4x5xf32>) -> tensor<2x5xf32>
    %3 = "keras.rsqrt"(%2) : (tensor<2x5xf32>) -> tensor<2x5xf32>
    %4 = "keras.broadcast_in_dim"(%3) {dims = array<i64: 0, 3>, shape = array<i64: 2, 3, 4, 5>} : (tensor<2x5xf32>) -> tensor<2x3x4x5xf32>
    %5 = "keras.le"(%1, %0) : (tensor<2x3x4x5xf32>, tensor<f32>) -> tensor<2x3x4x5xi1>
    %6 = "keras.select"(%5, %0, %4) : (tensor<2x3x4x5xi1>, tensor<f32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
    %7 = "keras.full"() {dtype = "f32", shape = array<i64: 2, 3, 4, 5>, value = 1.000000e+00 : f64} : () -> tensor<2x3x4x5xf32>
    %8 = "keras.full"() {dtype = "f32", shape = array<i64>, value = 0.000000e+00 : f64} : () -> tensor<f32>
    %9 = "keras.select"(%5, %8, %7) : (tensor<2x3x4x5xi1>, tensor<f32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
    %10 = "keras.sum"(%9) {axes = array<i64: 1, 2>} : (tensor<2x3x4x5xf32>) -> tensor<2x5xf32>
    %11 = "keras.broadcast_in_dim"(%3) {dims = array<i64: 0, 1>, shape = array<i64: 2, 5>} : (tensor<2x5xf32>) -> tensor<2x5xf32>
    %12 = "keras.mul"(%10, %11) : (tensor<2x5xf32>, tensor<2x5xf32>) -> tensor<2x5xf32>
    %13 = "keras.full"() {dtype = "f32", shape = array<i64>, value = 0.000000e+00 : f64} : () -> tensor<f32>
    %14 = "keras.eq"(%10, %13) : (tensor<2x5xf32>, tensor<f32>) -> tensor<2x5xi1>
    %15 = "keras.select"(%14, %13, %12) : (tensor<2x5xi1>, tensor<f32>, tensor<2x5xf32>) -> tensor<2x5xf32>
    %16 = "keras.sum"(%15) {axes = array<i64: 0>} : (tensor<2x5xf32>) -> tensor<5xf32>
    %17 = "keras.sum"(%6) {axes = array<i64: 0, 1, 2>} : (tensor<2x3x4x5xf32>) -> tensor<5xf32>
    %18 = "keras.mul"(%6, %arg0) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
    %19 = "keras.neg"(%18) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
    %20 = "keras.full"() {dtype = "f32", shape = array<i64: 2, 3, 4, 5>, value = 1.000000e+00 : f64} : () -> tensor<2x3x4x5xf32>
    %21 = "keras.full"() {dtype = "f32", shape = array<i64>, value = 0.000000e+00 : f64} : () -> tensor<f32>
    %22 = "keras.select"(%5, %21, %arg0) : (tensor<2x3x4x5xi1>, tensor<f32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
    %23 = "keras.sum"(%22) {axes = array<i64: 1, 2>} : (tensor<2x3x4x5xf32>) -> tensor<2x5xf32>
    %24 = "keras.broadcast_in_dim"(%3) {dims = array<i64: 0, 1>, shape = array<i64: 2, 5>} : (tensor<2x5xf32>) -> tensor<2x5xf32>
    %25 = "keras.mul"(%23, %24) : (tensor<2x5xf32>, tensor<2x5xf32>) -> tensor<2x5xf32>
    %26 = "keras.full"() {dtype = "f32", shape = array<i64>, value = 0.000000e+00 : f64} : () -> tensor<f32>
    %27 = "keras.eq"(%10, %26) : (tensor<2x5xf32>, tensor<f32>) -> tensor<2x5xi1>
    %28 = "keras.select"(%27, %26, %25) : (tensor<2x5xi1>, tensor<f32>, tensor<2x5xf32>) -> tensor<2x5xf32>
    %29 = "keras.neg"(%28) : (tensor<2x5xf32>) -> tensor<2x5xf32>
    %30 = "keras.sum"(%29) {axes = array<i64: 0>} : (tensor<2x5xf32>) -> tensor<5xf32>
    %31 = "keras.sum"(%19) {axes = array<i64: 0, 1, 2>} : (tensor<2x3x4x5xf32>) -> tensor<5xf32>
    %32 = "keras.mul"(%6, %arg1) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
    %33 = "keras.exp"(%32) : (tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
    %34 = "keras.mul"(%33, %4) : (tensor<2x3x4x5xf32>, tensor<2x3x4x5xf32>) -> tensor<2x3x4x5xf32>
    %35 = "keras.sum"(%34) {axes = array<i64: 0, 1, 2>} : (tensor<2x3x4x5xf32>) -> tensor<5xf32>
    return %2, %16, %30, %35 : tensor<2x5xf32>, tensor<5xf32>, tensor<5xf32>, tensor<5xf32>
  }
}
