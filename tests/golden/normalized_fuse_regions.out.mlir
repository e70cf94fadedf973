#map = affine_map<(d0, d1, d2, d3) -> (d1, d2, d3, d0)>
#map1 = affine_map<(d0, d1, d2, d3) -> (d0)>
#map2 = affine_map<(d0) -> (d0)>
#map3 = affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>
#map4 = affine_map<(d0, d1, d2, d3) -> (d3)>
module attributes {keras.stage = "regions"} {
  func.func private @conv2d_sum_div_add_0(%arg0: tensor<2x5x4x32xbf16>, %arg1: tensor<1x1x32x32xbf16>) -> (tensor<2x5x4x32xbf16>, tensor<32xf32>, tensor<32xf32>) attributes {keras.kernel = "conv2d", keras.layers = []} {
    %0 = "keras.conv2d"(%arg0, %arg1) {dilations = array<i64: 1, 1>, groups = 1 : i64, pads = array<i64: 0, 0, 0, 0>, strides = array<i64: 1, 1>} : (tensor<2x5x4x32xbf16>, tensor<1x1x32x32xbf16>) -> tensor<2x5x4x32xbf16>
    %1 = tensor.empty() : tensor<32xf32>
    %cst = arith.constant 0.000000e+00 : f32
    %2 = linalg.fill ins(%cst : f32) outs(%1 : tensor<32xf32>) -> tensor<32xf32>
    %3 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "reduction", "reduction", "reduction"]} ins(%0 : tensor<2x5x4x32xbf16>) outs(%2 : tensor<32xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: bf16, %out: f32):
      %11 = arith.extf %in : bf16 to f32
      %12 = arith.addf %out, %11 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %12 : f32
    } -> tensor<32xf32>
    %4 = tensor.empty() : tensor<32xf32>
    %5 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel"]} ins(%3 : tensor<32xf32>) outs(%4 : tensor<32xf32>) attrs =  {keras.op = "div"} {
    ^bb0(%in: f32, %out: f32):
      %cst_1 = arith.constant 4.000000e+01 : f32
      %11 = arith.divf %in, %cst_1 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %11 : f32
    } -> tensor<32xf32>
    %6 = tensor.empty() : tensor<32xf32>
    %cst_0 = arith.constant 0.000000e+00 : f32
    %7 = linalg.fill ins(%cst_0 : f32) outs(%6 : tensor<32xf32>) -> tensor<32xf32>
    %8 = linalg.generic {indexing_maps = [#map, #map1], iterator_types = ["parallel", "reduction", "reduction", "reduction"]} ins(%0 : tensor<2x5x4x32xbf16>) outs(%7 : tensor<32xf32>) attrs =  {keras.op = "sum"} {
    ^bb0(%in: bf16, %out: f32):
      %11 = arith.extf %in : bf16 to f32
      %12 = arith.mulf %11, %11 fastmath<reassoc,nsz,contract> : f32
      %13 = arith.addf %out, %12 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %13 : f32
    } -> tensor<32xf32>
    %9 = tensor.empty() : tensor<32xf32>
    %10 = linalg.generic {indexing_maps = [#map2, #map2], iterator_types = ["parallel"]} ins(%8 : tensor<32xf32>) outs(%9 : tensor<32xf32>) attrs =  {keras.op = "rsqrt"} {
    ^bb0(%in: f32, %out: f32):
      %cst_1 = arith.constant 4.000000e+01 : f32
      %11 = arith.divf %in, %cst_1 fastmath<reassoc,nsz,contract> : f32
      %cst_2 = arith.constant 1.000000e+00 : f32
      %12 = arith.addf %11, %cst_2 fastmath<reassoc,nsz,contract> : f32
      %13 = math.rsqrt %12 fastmath<reassoc,nsz,contract> : f32
      linalg.yield %13 : f32
    } -> tensor<32xf32>
    return %0, %5, %10 : tensor<2x5x4x32xbf16>, tensor<32xf32>, tensor<32xf32>
  }
  func.func private @conv2d_relu_1(%arg0: tensor<2x5x4x32xbf16>, %arg1: tensor<32xf32>, %arg2: tensor<32xf32>, %arg3: tensor<3x3x32x24xbf16>) -> tensor<2x5x4x24xbf16> attributes {keras.kernel = "conv2d", keras.layers = []} {
    %0 = tensor.empty() : tensor<2x5x4x32xbf16>
    %1 = linalg.generic {indexing_maps = [#map3, #map4, #map4, #map3], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%arg0, %arg1, %arg2 : tensor<2x5x4x32xbf16>, tensor<32xf32>, tensor<32xf32>) outs(%0 : tensor<2x5x4x32xbf16>) attrs =  {keras.op = "relu"} {
    ^bb0(%in: bf16, %in_0: f32, %in_1: f32, %out: bf16):
      %3 = arith.extf %in : bf16 to f32
      %4 = arith.subf %3, %in_0 fastmath<reassoc,nsz,contract> : f32
      %5 = arith.mulf %4, %in_1 fastmath<reassoc,nsz,contract> : f32
      %cst = arith.constant 0.000000e+00 : f32
      %6 = arith.maximumf %5, %cst fastmath<reassoc,nsz,contract> : f32
      %7 = arith.truncf %6 : f32 to bf16
      linalg.yield %7 : bf16
    } -> tensor<2x5x4x32xbf16>
    %2 = "keras.conv2d"(%1, %arg3) {dilations = array<i64: 1, 1>, groups = 1 : i64, pads = array<i64: 1, 1, 1, 1>, strides = array<i64: 1, 1>} : (tensor<2x5x4x32xbf16>, tensor<3x3x32x24xbf16>) -> tensor<2x5x4x24xbf16>
    return %2 : tensor<2x5x4x24xbf16>
  }
  func.func private @conv2d_kernel_grad_relu_2(%arg0: tensor<2x5x4x32xbf16>, %arg1: tensor<32xf32>, %arg2: tensor<32xf32>, %arg3: tensor<2x5x4x24xbf16>) -> tensor<3x3x32x24xbf16> attributes {keras.kernel = "conv2d_kernel_grad", keras.layers = []} {
    %0 = tensor.empty() : tensor<2x5x4x32xbf16>
    %1 = linalg.generic {indexing_maps = [#map3, #map4, #map4, #map3], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%arg0, %arg1, %arg2 : tensor<2x5x4x32xbf16>, tensor<32xf32>, tensor<32xf32>) outs(%0 : tensor<2x5x4x32xbf16>) attrs =  {keras.op = "relu"} {
    ^bb0(%in: bf16, %in_0: f32, %in_1: f32, %out: bf16):
      %3 = arith.extf %in : bf16 to f32
      %4 = arith.subf %3, %in_0 fastmath<reassoc,nsz,contract> : f32
      %5 = arith.mulf %4, %in_1 fastmath<reassoc,nsz,contract> : f32
      %cst = arith.constant 0.000000e+00 : f32
      %6 = arith.maximumf %5, %cst fastmath<reassoc,nsz,contract> : f32
      %7 = arith.truncf %6 : f32 to bf16
      linalg.yield %7 : bf16
    } -> tensor<2x5x4x32xbf16>
    %2 = "keras.conv2d_kernel_grad"(%arg3, %1) {dilations = array<i64: 1, 1>, groups = 1 : i64, pads = array<i64: 1, 1, 1, 1>, shape = array<i64: 3, 3, 32, 24>, strides = array<i64: 1, 1>} : (tensor<2x5x4x24xbf16>, tensor<2x5x4x32xbf16>) -> tensor<3x3x32x24xbf16>
    return %2 : tensor<3x3x32x24xbf16>
  }
  func.func @main(%arg0: tensor<2x5x4x32xbf16> {keras.name = "x"}, %arg1: tensor<1x1x32x32xbf16> {keras.name = "v"}, %arg2: tensor<3x3x32x24xbf16> {keras.name = "w"}, %arg3: tensor<2x5x4x24xbf16> {keras.name = "g"}) -> (tensor<2x5x4x24xbf16>, tensor<3x3x32x24xbf16>, tensor<32xf32>) {
    %0:3 = call @conv2d_sum_div_add_0(%arg0, %arg1) : (tensor<2x5x4x32xbf16>, tensor<1x1x32x32xbf16>) -> (tensor<2x5x4x32xbf16>, tensor<32xf32>, tensor<32xf32>)
    %1 = call @conv2d_relu_1(%0#0, %0#1, %0#2, %arg2) : (tensor<2x5x4x32xbf16>, tensor<32xf32>, tensor<32xf32>, tensor<3x3x32x24xbf16>) -> tensor<2x5x4x24xbf16>
    %2 = call @conv2d_kernel_grad_relu_2(%0#0, %0#1, %0#2, %arg3) : (tensor<2x5x4x32xbf16>, tensor<32xf32>, tensor<32xf32>, tensor<2x5x4x24xbf16>) -> tensor<3x3x32x24xbf16>
    return %1, %2, %0#1 : tensor<2x5x4x24xbf16>, tensor<3x3x32x24xbf16>, tensor<32xf32>
  }
}
